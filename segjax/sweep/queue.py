"""Who runs which variant: a queue in the sweep's folder that any number of workers, on any number of hosts, take from.

A variant is taken by an exclusive lock (flock) on `locks/NAME`. The operating system gives it up when its holders end,
however they end, so a killed worker blocks nothing; the child that trains holds it too, so an orphan is not doubled.
What a finished variant leaves is `results.json`, and `failed.json` one that ended with an error; neither is run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from segjax.core.config import as_text, to_dict
from segjax.core.errors import ConfigError, StorageError
from segjax.core.files import write_text
from segjax.core.lock import holder
from segjax.core.options import flatten
from segjax.sweep.variants import Variant

RUNS, LOCKS, RECORD = "runs", "locks", "sweep.json"
RESULTS, FAILED = "results.json", "failed.json"
FREE = ("name", "data.root", "data.cache", "data.threads", "data.prefetch", "data.cache_decoded")
"""Keys that may change while a sweep is under way, besides those of the groups log and parallel: not the result's."""


class Queue:
    """The variants of a sweep in its folder.

    Attributes:
      folder: the sweep's.
      variants: all of them, in order.
    """

    def __init__(self, folder: Path, variants: Sequence[Variant]):
        """Notes the variants in `sweep.json`, beside those of earlier starts.

        Raises:
          ConfigError: the folder holds a variant of the same name and another config.
        """
        self.folder, self.variants = folder, list(variants)
        path = folder / RECORD
        try:
            known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            theirs = {variant.name: known[variant.name]["config"] for variant in variants if variant.name in known}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error}); move it away, or take another --workdir.") from error
        for variant in variants:
            if variant.name in theirs:
                _check_same(folder, variant, theirs[variant.name])
        for variant in variants:
            known[variant.name] = {"overrides": dict(variant.overrides), "config": to_dict(variant.config)}
        write_text(path, json.dumps(known, indent=1) + "\n")

    def workdir(self, variant: Variant) -> Path:
        """Where the variant's run is kept."""
        return self.folder / RUNS / variant.name

    def open(self, variant: Variant) -> bool:
        """Whether the variant is still to be run, or being run."""
        return not any((self.workdir(variant) / name).is_file() for name in (RESULTS, FAILED))

    def fail(self, variant: Variant, why: str) -> None:
        """Notes that the variant ended with an error of its own, such as a loss that is not finite."""
        write_text(self.workdir(variant) / FAILED, json.dumps({"error": why}) + "\n")
        print(f"sweep: {variant.name} failed: {why}", flush=True)

    def forgive(self) -> None:
        """Forgets failures, so that these variants are tried again."""
        for variant in self.variants:
            (self.workdir(variant) / FAILED).unlink(missing_ok=True)

    @contextlib.contextmanager
    def take(self, variants: Sequence[Variant]) -> Iterator[list[int] | None]:
        """Locks all of the variants, or none (None): another worker has one, or none is open any more.

        Yields the locks' file descriptors, to be handed to children.

        Raises:
          StorageError: a file system without locks.
        """
        with contextlib.ExitStack() as stack:
            held = []
            for variant in variants:
                path = self.folder / LOCKS / variant.name
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("a"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    held = None
                    break
                except OSError as error:
                    raise StorageError(
                        f"{path} cannot be locked: {error.strerror}; give each worker its part with --shard i/n and a "
                        "--workdir on a file system with locks."
                    ) from error
                held.append(file.fileno())
            yield held if held is not None and any(map(self.open, variants)) else None


def shard(items: Sequence[Any], text: str | None) -> list[Any]:
    """Every n-th item from the i-th on, for `i/n`; ConfigError for anything else."""
    if text is None:
        return list(items)
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ConfigError(f"--shard: {text!r} is not i/n with 0 <= i < n, such as 0/4.")
    return list(items)[int(index) :: int(count)]


def run_queue(
    queue: Queue,
    variants: Sequence[Variant],
    jobs: int,
    command: Callable[[Variant, Path], list[str]],
) -> str | None:
    """Runs those of `variants` that are open and free, `jobs` at a time, each a process of its own.

    Child k sees the share k, k + jobs, ... of the devices in CUDA_VISIBLE_DEVICES, where that is set. What a child
    prints goes to `log.txt` in its workdir. SIGTERM and Ctrl-C end the children as they end a run: it saves and stops.

    Args:
      queue: the sweep's.
      variants: this worker's part.
      jobs: processes at a time.
      command: of a variant's process, given its workdir.

    Returns:
      The signal's name if the queue was interrupted, else None.
    """
    children: dict[str, subprocess.Popen] = {}
    stopped: list[str] = []
    guard, slots = threading.Lock(), list(range(jobs))

    def stop(number: int, frame: Any) -> None:
        stopped.append(signal.Signals(number).name)
        for child in list(children.values()):
            child.send_signal(signal.SIGTERM)

    def one(variant: Variant) -> None:
        try:
            run(variant)
        except BaseException:  # such as no space for its log: nothing more is started
            stop(signal.SIGTERM, None)
            raise

    def run(variant: Variant) -> None:
        with queue.take([variant]) as locks:
            if locks is None:
                return
            workdir = queue.workdir(variant)
            workdir.mkdir(parents=True, exist_ok=True)
            with guard:
                if stopped:
                    return
                slot = slots.pop(0)
                with (workdir / "log.txt").open("a") as log:
                    child = children[variant.name] = subprocess.Popen(
                        command(variant, workdir),
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=_environment(slot, jobs),
                        pass_fds=locks,
                        start_new_session=True,  # a Ctrl-C reaches it through `stop` alone
                    )
            if stopped:  # while it was being started
                child.send_signal(signal.SIGTERM)
            print(f"sweep: {variant.name} runs in {workdir}", flush=True)
            status = child.wait()
            with guard:
                slots.append(slot)
                del children[variant.name]
            _note_end(queue, variant, status, bool(stopped))

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(one, variant) for variant in variants if queue.open(variant)]:
                done.result()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return stopped[0] if stopped else None


def train_command(spec: str, texts: Mapping[str, str]) -> Callable[[Variant, Path], list[str]]:
    """The `command` of `run_queue`: `segjax train` with the variant's keys on the command line."""

    def command(variant: Variant, workdir: Path) -> list[str]:
        keys = {"name": variant.config.name, **variant.overrides}
        flags = {**texts, **{key: as_text(key, value, variant.config.task) for key, value in keys.items()}}
        start = [sys.executable, "-m", "segjax.cli.main", "train", f"--config={spec}", f"--workdir={workdir}"]
        return [*start, "--resume", *(f"--config.{key}={text}" for key, text in flags.items())]

    return command


def _note_end(queue: Queue, variant: Variant, status: int, stopped: bool) -> None:
    if status == 0:
        print(f"sweep: {variant.name} is done", flush=True)
    elif status == 2 and (owner := holder(queue.workdir(variant))) is not None:
        print(f"sweep: {variant.name} is left open: {owner} writes to {queue.workdir(variant)}", flush=True)
    elif status == 2:
        lines = (queue.workdir(variant) / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        queue.fail(variant, next((line for line in lines[::-1] if line.startswith("segjax ")), "see log.txt"))
    elif not stopped:
        what = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        print(f"sweep: {variant.name} {what}; see {queue.workdir(variant)}/log.txt", flush=True)


def _environment(slot: int, jobs: int) -> dict[str, str]:
    devices = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    if jobs == 1 or not devices:
        return dict(os.environ)
    share = devices[slot % len(devices) :: jobs]
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(share)}


def _check_same(folder: Path, variant: Variant, theirs: Mapping[str, Any]) -> None:
    ours = dict(flatten(json.loads(json.dumps(to_dict(variant.config)))))
    theirs = dict(flatten(theirs))
    for key in [*ours, *theirs]:
        free = key in FREE or key.startswith(("log.", "parallel."))
        if not free and ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{folder} holds a sweep whose variant {variant.name!r} has config.{key}={theirs.get(key)!r}, here it "
                f"is {ours.get(key)!r}; take another --workdir, or another name."
            )
