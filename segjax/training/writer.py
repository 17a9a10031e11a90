"""Where a run's numbers go: metrics.jsonl, TensorBoard, Weights & Biases, and one line at a time to the terminal."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from segjax.core.cleanup import Cleanup
from segjax.core.errors import ConfigError, StorageError
from segjax.core.files import write_text
from segjax.core.jsonable import jsonable

METRICS = "metrics.jsonl"


class Writer:
    """Writes records `{"step": ..., "kind": "train" | "eval" | ..., **numbers}`.

    A resumed run drops what a lost one wrote after the step it resumes from, so the file holds each step once.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        name: str = "run",
        config: Mapping[str, Any] | None = None,
        tensorboard: bool = True,
        wandb: str | None = None,
        resume_step: int = 0,
        active: bool = True,
    ):
        """Opens the files.

        Args:
          workdir: the run's folder.
          name: the run's name for wandb.
          config: what wandb shows as the run's config.
          tensorboard: write event files to WORKDIR/tensorboard.
          wandb: a project's name, or None.
          resume_step: records of later steps are dropped; 0 starts anew.
          active: false in all processes but the first; such a writer writes nothing.

        Raises:
          ConfigError: wandb is asked for and not installed.
          StorageError: the folder cannot be written.
        """
        self._file: TextIO | None = None
        self._events: Events | None = None
        self._wandb: Any = None
        if not active:
            return
        self._path = Path(workdir) / METRICS
        if wandb is not None:
            self._wandb = _start_wandb(wandb, name, config, workdir, resume=resume_step > 0)
        write_text(self._path, "".join(_lines_until(self._path, resume_step)))
        with self._storage_errors():
            self._file = self._path.open("a", encoding="utf-8")
            if tensorboard:
                self._events = Events(Path(workdir) / "tensorboard", resume_step=resume_step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Appends one record and flushes it. Lists stay in the file; NaN and infinities are null in JSON.

        Raises:
          StorageError: no space left, or the file is no longer where it was.
        """
        if self._file is None:
            return
        record = {"step": step, "kind": kind, "time": round(time.time(), 3), **values}
        scalars = {f"{kind}/{key}": float(value) for key, value in values.items() if _is_number(value)}
        with self._storage_errors():
            if not os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno())):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._file.write(json.dumps(jsonable(record)) + "\n")
            self._file.flush()
            if self._events is not None:
                self._events.write(step, scalars)
        if self._wandb is not None:
            self._wandb.log(scalars, step=step)

    def close(self) -> None:
        """Flushes and closes everything."""
        with Cleanup() as closing:
            if self._wandb is not None:
                closing.callback(self._wandb.finish)
            closing.enter_context(self._storage_errors())
            for file in (self._file, self._events):
                if file is not None:
                    closing.callback(file.close)

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StorageError(
                f"{self._path} was removed or replaced while a run was writing to it; start the run again."
            ) from error
        except OSError as error:
            raise StorageError(
                f"{self._path.parent}: the log could not be written: {error.strerror or error}; put that right (free "
                "some space) and go on with --resume."
            ) from error


class Events:
    """TensorBoard's event file, written where it is asked for: a thread's errors would come late, or never."""

    def __init__(self, folder: Path, *, resume_step: int = 0, interval: float = 10.0):
        """
        Args:
          folder: of the event files; a new one is made.
          resume_step: TensorBoard hides what older files hold of later steps; 0 hides nothing.
          interval: seconds between flushes.
        """
        self._record_writer, self._event, self._summary, session = _tensorboardx()
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        self._file, self._interval, self._flushed = self._record_writer(str(folder / name)), interval, time.monotonic()
        self._add(file_version="brain.Event:2")
        if resume_step:
            self._add(step=resume_step + 1, session_log=session(status=session.START))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one summary of {tag: number}; raises OSError."""
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add(step=step, summary=self._summary(value=values))
        if time.monotonic() - self._flushed > self._interval:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left; raises OSError."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        self._file.write(self._event(wall_time=time.time(), **fields).SerializeToString())


class Console:
    """One progress bar in a terminal; elsewhere one plain line a record."""

    def __init__(self, total: int, *, start: int = 0, active: bool = True, stream: TextIO | None = None):
        self._stream = stream or sys.stdout
        self._active, self._bar, self._task = active, None, None
        if active and self._stream.isatty():
            import rich.console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=rich.console.Console(file=self._stream),
            )
            self._task = self._bar.add_task("train", total=total, completed=start)
            self._bar.start()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def line(self, text: str) -> None:
        """Prints one line, above the bar where there is one."""
        if not self._active:
            return
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


def train_line(step: int, steps: int, values: Mapping[str, float]) -> str:
    """`step 120/2000  loss 0.8123  lr 9.1e-04  142.3 images/s  MFU 41.2%  data wait 3%  device 1.2 GB  host 3.1 GB`."""
    parts = [
        f"step {step:>{len(str(steps))}}/{steps}",
        f"loss {values['loss']:.4f}",
        f"lr {values['learning_rate']:.2e}",
        f"{values['images_per_second']:.1f} images/s",
    ]
    if "mfu" in values:
        parts.append(f"MFU {values['mfu']:.1%}")
    parts.append(f"data wait {values['data_wait']:.0%}")
    if "device_memory" in values:
        parts.append(f"device {values['device_memory'] / 1e9:.2f} GB")
    parts.append(f"host {values['host_memory'] / 1e9:.2f} GB")
    if values.get("nonfinite_steps"):
        parts.append(f"NON-FINITE in {int(values['nonfinite_steps'])} steps")
    return "  ".join(parts)


def read_metrics(path: str | Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, those of one kind if given; a last line cut off by a kill is left out."""
    records = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if kind is None or record["kind"] == kind:
            records.append(record)
    return records


def _lines_until(path: Path, step: int) -> list[str]:
    if step == 0 or not path.is_file():
        return []
    return [json.dumps(record) + "\n" for record in read_metrics(path) if record["step"] <= step]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _tensorboardx() -> tuple[type, type, type, type]:
    """Its writer of records, and the messages Event, Summary and SessionLog.

    Where torch is installed, tensorboardX imports that for the name of a type: seconds of a run's start.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None
    try:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.record_writer import RecordWriter
    finally:
        if hidden:
            del sys.modules["torch"]
    return RecordWriter, Event, Summary, SessionLog


def _start_wandb(
    project: str, name: str, config: Mapping[str, Any] | None, workdir: str | Path, *, resume: bool
) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError(
            "config.log.wandb: wandb is not installed; `pip install 'segjax[wandb]'`, or set config.log.wandb=None."
        ) from error
    return wandb.init(project=project, name=name, config=dict(config or {}), dir=str(workdir), resume=resume or None)
