"""Checkpoints: written asynchronously by Orbax, sealed with checksums, checked before anything of them is used.

Layout of a run's folder: `checkpoints/STEP/` with the items `model` (step, parameters, statistics, average),
`optimizer`, `meta` (JSON: config, data set, data iterators, versions, shapes), `metrics`, and `manifest.json`, the
SHA-256 of each file. The manifest is written into Orbax's temporary folder, just before the rename that commits it, so
a folder with a number for a name and no manifest is one that was damaged. Orbax alone restores flipped bits in silence.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.metadata
import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint._src.futures import future, synchronization

from segjax.core.errors import CheckpointError, SegjaxError, StorageError
from segjax.core.lock import holder
from segjax.core.paths import named_leaves
from segjax.core.schema import DatasetInfo
from segjax.training import background
from segjax.training.identity import check_leaves, check_same_run
from segjax.training.manifest import MANIFEST, checksums, committed_steps, damage, set_aside
from segjax.training.state import TrainState

FOLDER = "checkpoints"
ATTEMPTS = 10
"""Times that a checkpoint is chosen anew because the run that is under way deleted the one chosen before."""
log = logging.getLogger("segjax")


class Restored(NamedTuple):
    """A checkpoint in a training run: the state on its mesh and this process's data iterator state."""

    step: int
    state: TrainState
    iterator: Any
    metrics: dict[str, Any]


class Saved(NamedTuple):
    """A checkpoint for inference; arrays are numpy, `variables` prefers the averaged parameters."""

    step: int
    config: dict[str, Any]
    info: DatasetInfo
    variables: dict[str, Any]
    metrics: dict[str, Any]


class Checkpointer:
    """Saves and restores one run's states.

    Kept are the best step by `best` and the last two, so that a damaged last one has a predecessor. Smaller is better
    for a metric with `loss` in its name, larger for any other.
    """

    def __init__(self, workdir: str | Path, *, config: Mapping[str, Any], info: DatasetInfo, best: str, resume: bool):
        """Looks at what `workdir` holds and writes nothing.

        Args:
          workdir: the run's folder.
          config: `core.config.to_dict` of the run's.
          info: the data set's.
          best: metric that ranks the steps saved with metrics.
          resume: whether the run goes on from the last checkpoint there.

        Raises:
          CheckpointError: where the folder holds checkpoints of another config, or of this one and `resume` is false.
        """
        self.directory = _openable(Path(workdir)) / FOLDER
        self.config, self.info, self.best = dict(config), info, best
        self._shown = workdir
        self._saving: int | None = None
        self._operation: str | None = None
        self._failed = False
        steps = committed_steps(self.directory)
        if steps:
            self._check_owner(steps, resume)

    def _check_owner(self, steps: Sequence[int], resume: bool) -> None:
        for step in reversed(steps):
            if damage(self.directory / str(step)) is None:
                meta = _read_meta(self.directory / str(step))
                check_same_run(self._shown, meta, self.config, self.info)
                break
        if not resume:
            raise CheckpointError(
                f"{self._shown} already holds a checkpoint of step {steps[-1]}; go on from it with --resume, or give "
                "another --workdir."
            )

    @functools.cached_property
    def _manager(self) -> ocp.CheckpointManager:
        background.quiet()
        latest = policies.LatestN(2)
        best = policies.BestN(get_metric_fn=lambda m: _rank(m, self.best), n=1, keep_checkpoints_without_metrics=False)
        try:
            return ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    best_fn=lambda m: _rank(m, self.best),  # without one, Orbax writes no metrics
                    preservation_policy=policies.AnyPreservationPolicy([latest, best]),
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                    cleanup_tmp_directories=True,
                ),
                item_names=("model", "optimizer", "meta"),
            )
        except OSError as error:
            raise StorageError(
                f"{self.directory} cannot be made: {error.strerror or error}; choose another --workdir."
            ) from error

    def save(self, step: int, state: TrainState, *, iterator: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Copies the state off the devices and writes it in the background; waits first for the save before it.

        Args:
          step: steps done.
          state: the whole state.
          iterator: this process's data iterator state, JSON values or bytes.
          metrics: scores; those that are numbers are kept with the step.

        Raises:
          StorageError: no space left, now or during the save before, or a folder that cannot be written to any more;
            earlier checkpoints stay whole.
          CheckpointError: where `metrics` lacks the metric that picks the best.
        """
        scalars = {key: float(value) for key, value in (metrics or {}).items() if np.ndim(value) == 0}
        if metrics is not None and self.best not in scalars:
            raise CheckpointError(
                f"config.checkpoint.best: no metric {self.best!r}; the evaluation gives {', '.join(sorted(scalars))}."
            )
        self.wait()
        self._check_space(state)
        model = {"step": state.step, "params": state.params, "model_state": state.model_state}
        if state.ema is not None:
            model["ema"] = state.ema
        meta = {
            "config": self.config,
            "best": self.best,
            "info": self.info.to_json(),
            "iterators": _gather(iterator),
            "leaves": _leaves(state),
            "versions": _versions(),
        }
        self._saving = step
        with self._storage_errors():
            try:
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        model=ocp.args.StandardSave(model),
                        optimizer=ocp.args.StandardSave({"opt_state": state.opt_state}),
                        meta=ocp.args.JsonSave(meta),
                    ),
                    metrics=scalars,  # empty rather than None, at which Orbax warns
                    force=True,
                )
            finally:
                self._operation = synchronization.OperationIdGenerator.get_current_operation_id()

    def wait(self) -> None:
        """Returns when the last save is committed; raises what went wrong with it."""
        if "_manager" in self.__dict__:
            with self._storage_errors():
                self._manager.wait_until_finished()
                self._manager.check_for_errors()

    def close(self) -> None:
        """Waits for the last save and ends the background threads; removes what a failed save left."""
        if "_manager" not in self.__dict__:
            return
        manager = self.__dict__.pop("_manager")
        try:
            with self._storage_errors():
                manager.close()
        finally:
            if self._failed:
                _release_threads(self._operation)
                with contextlib.suppress(Exception):
                    manager.close()  # after an error, which it raises once, it has still its threads to end
                if jax.process_index() == 0:
                    for folder in self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                        shutil.rmtree(folder, ignore_errors=True)

    def restore(self, which: int | str, template: TrainState) -> Restored | None:
        """The state of a step, on the shardings of `template`, which may be those of another mesh.

        Damaged steps are passed over, with one line of warning each, and moved aside, so that the run can save those
        steps again.

        Args:
          which: a step, "last" or "best".
          template: shapes, dtypes and shardings (`state.abstract_state`).

        Returns:
          None where there is no whole checkpoint.

        Raises:
          CheckpointError: a leaf that is missing, left over, or of another shape or dtype; another number of processes,
            where each stood at a place of its own in the data.
        """
        step, broken = _choose(self.directory, which, self.best)
        if jax.process_index() == 0:
            for bad in broken:
                set_aside(self.directory / str(bad))
        if step is None:
            return None
        folder = self.directory / str(step)
        meta = _read_meta(folder)
        check_leaves(folder, meta["leaves"], _leaves(template))
        iterators = meta["iterators"]
        if len(iterators) != jax.process_count():
            if any(other != iterators[0] for other in iterators):
                raise CheckpointError(
                    f"{folder}: written by {len(iterators)} processes, this run has {jax.process_count()}; each has "
                    f"its own place in the data: start {len(iterators)}."
                )
            iterators = iterators[:1] * jax.process_count()
        model = {"step": template.step, "params": template.params, "model_state": template.model_state}
        if template.ema is not None:
            model["ema"] = template.ema
        model = _read_arrays(folder / "model", model)
        optimizer = _read_arrays(folder / "optimizer", {"opt_state": template.opt_state})
        state = TrainState(
            model["step"], model["params"], model["model_state"], optimizer["opt_state"], model.get("ema")
        )
        return Restored(step, state, _decode(iterators[jax.process_index()]), _read_metrics(folder))

    def _seal(self) -> None:
        """Writes the manifest into the folder that Orbax is about to commit."""
        if jax.process_index() == 0:
            for folder in self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"):
                (folder / MANIFEST).write_text(json.dumps(checksums(folder), indent=1, sort_keys=True))

    def _check_space(self, state: TrainState) -> None:
        """Raises StorageError where the folder was removed, or a checkpoint does not fit."""
        made = "_manager" in self.__dict__
        with self._storage_errors():
            self._manager  # noqa: B018  (it first removes what a save that was cut off left)
            if made and not self.directory.is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.directory))
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
            free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise StorageError(self._no_space(f"{needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free"))

    def _no_space(self, detail: str) -> str:
        return (
            f"{self._shown}: no space left on the device for a checkpoint ({detail}); {self._kept()}: free some space "
            "and go on with --resume."
        )

    def _unwritten(self, cause: OSError) -> str:
        if cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return self._no_space(f"step {self._saving}" if cause.errno == errno.ENOSPC else cause.strerror)
        if not self.directory.is_dir():
            return f"{Path(self._shown) / FOLDER} was removed while a run was writing to it; start the run again."
        limit = " (`ulimit -f` tells the limit)" if cause.errno == errno.EFBIG else ""
        return (
            f"{self._shown}: a checkpoint (step {self._saving}) could not be written: {cause.strerror or cause}"
            f"{limit}; {self._kept()}: put that right and go on with --resume."
        )

    def _kept(self) -> str:
        whole = [step for step in committed_steps(self.directory) if damage(self.directory / str(step)) is None]
        return f"the last good checkpoint is step {whole[-1]}" if whole else "there is no checkpoint yet"

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turns what a full disk or a lost folder raises, which Orbax reports in several ways, into one line."""
        try:
            yield
        except SegjaxError:
            raise
        except Exception as error:
            self._failed = True
            causes = list(background.causes(error))
            background.forget(causes)
            found = next(filter(None, map(background.system_error, causes)), None)
            if found is None:
                raise
            raise StorageError(self._unwritten(found)) from error


def read_checkpoint(path: str | Path, which: int | str = "best") -> Saved:
    """What inference needs of a run's checkpoint; the optimiser is not read.

    Args:
      path: the run's folder or its `checkpoints`.
      which: a step (a number or its text), "best" (the last, where no step was scored) or "last".

    Raises:
      CheckpointError: where there is no whole checkpoint.
    """
    if isinstance(which, str) and which.isdecimal():
        which = int(which)
    if isinstance(which, str) and which not in ("best", "last"):
        raise CheckpointError(f"checkpoint {which!r}: neither best, last nor the number of a step.")
    path = _openable(Path(path))
    directory = path / FOLDER if (path / FOLDER).is_dir() else path
    if not directory.is_dir():
        raise CheckpointError(f"{path}: no such folder; give the --workdir of a training run.")
    for _ in range(ATTEMPTS):
        if not committed_steps(directory):
            raise CheckpointError(f"{path} holds no checkpoint; give the --workdir of a training run.")
        step, _ = _choose(directory, which, None)
        if step is None:
            wanted = "no whole checkpoint" if isinstance(which, str) else f"no whole checkpoint of step {which}"
            raise CheckpointError(f"{path}: {wanted}; steps there: {', '.join(map(str, committed_steps(directory)))}.")
        try:
            return _read_saved(directory / str(step))
        except Exception:
            if not _deleted(directory / str(step)):
                raise
            if jax.process_count() > 1:  # the others may have read it
                break
    raise CheckpointError(
        f"{path}: the run that writes there deletes its checkpoints before they are read; wait for its end."
    )


def _read_saved(folder: Path) -> Saved:
    meta = _read_meta(folder)
    template: dict[str, Any] = {}
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    for name, (shape, dtype) in meta["leaves"].items():
        *parents, leaf = name.split("/")
        if parents[:1] != ["opt_state"]:
            node = template
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = jax.ShapeDtypeStruct(shape, dtype, sharding=here)
    template.setdefault("model_state", {})
    model = jax.tree.map(np.asarray, _read_arrays(folder / "model", template))
    variables = {"params": model.get("ema", model["params"]), **model["model_state"]}
    return Saved(
        int(folder.name), meta["config"], DatasetInfo.from_json(meta["info"]), variables, _read_metrics(folder)
    )


def _openable(path: Path) -> Path:
    """The absolute path; TensorStore opens none with bytes in it that are no UTF-8."""
    path = path.resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{path}: the path is not UTF-8, and no checkpoint can be kept there; rename the folder."
        ) from error
    return path


def _choose(directory: Path, which: int | str, best: str | None) -> tuple[int | None, list[int]]:
    """The first whole step in the order of `which`, and the damaged ones met before it."""
    steps = committed_steps(directory)
    if which == "best":

        def rank(step: int) -> tuple[float, int]:
            folder = directory / str(step)
            try:
                return _rank(_read_metrics(folder), best or _best_metric(_read_meta(folder))), step
            except (OSError, ValueError, KeyError):
                return -math.inf, step

        candidates = sorted(steps, key=rank, reverse=True)
    else:
        candidates = steps[::-1] if which == "last" else [step for step in steps if step == which]
    broken = []
    for position, step in enumerate(candidates):
        reason = damage(directory / str(step)) if jax.process_index() == 0 else None
        if jax.process_count() > 1:
            reason = multihost_utils.broadcast_one_to_all(np.int32(reason is not None)).item() or None
        if not reason:
            return step, broken
        if jax.process_count() == 1 and _deleted(directory / str(step)):
            return _choose(directory, which, best)
        broken.append(step)
        rest = candidates[position + 1 : position + 2]
        turn = f"trying step {rest[0]}" if rest else "there is no other"
        log.warning("checkpoint %s is damaged: %s; %s.", directory / str(step), reason, turn)
    return None, broken


def _best_metric(meta: Mapping[str, Any]) -> str:
    """The metric that ranks a run's steps; older checkpoints have it in their config alone."""
    return meta["best"] if "best" in meta else meta["config"]["checkpoint"]["best"]


def _release_threads(operation: str | None) -> None:
    """Ends the threads of a failed save, which otherwise wait for each other for minutes, also at the process's end.

    With several processes the watchdog ends the process without waiting for threads.
    """
    if jax.process_count() > 1:
        return
    for thread in threading.enumerate():
        if isinstance(thread, future._SignalingThread) and thread._operation_id == operation:
            thread.cancel()
            future.set_signals(thread._receive_signals, operation_id=operation)


def _deleted(folder: Path) -> bool:
    """Whether a step's folder is gone, or going: a run that is under way deletes those that it keeps no longer."""
    end = time.monotonic() + 2.0
    while folder.is_dir():
        if holder(folder.parent.parent) is None or time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _rank(metrics: Mapping[str, Any] | None, best: str) -> float:
    value = float((metrics or {}).get(best, math.nan))
    if math.isnan(value):
        return -math.inf
    return -value if "loss" in best else value


def _read_arrays(path: Path, template: Any) -> Any:
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(path, template)


def _read_meta(folder: Path) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
        return reader.restore(folder / "meta")


def _read_metrics(folder: Path) -> dict[str, Any]:
    if not (folder / "metrics").is_dir():
        return {}
    with ocp.Checkpointer(ocp.JsonCheckpointHandler(filename="metrics")) as reader:
        return reader.restore(folder / "metrics")


def _leaves(state: TrainState) -> dict[str, list[Any]]:
    """{path: [shape, dtype]} of a state or its template."""
    return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in named_leaves(state).items()}


def _gather(value: Any) -> list[Any]:
    """The JSON values of all processes, in their order."""
    text = json.dumps(_encode(value)).encode()
    if jax.process_count() == 1:
        return [json.loads(text)]
    length = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    rows = multihost_utils.process_allgather(np.frombuffer(text.ljust(length), np.uint8))
    return [json.loads(bytes(row)) for row in rows]


def _encode(value: Any) -> Any:
    return {"bytes": value.hex()} if isinstance(value, bytes) else {"json": value}


def _decode(record: Mapping[str, Any]) -> Any:
    return bytes.fromhex(record["bytes"]) if "bytes" in record else record["json"]


def _versions() -> dict[str, str]:
    found = {}
    for name in ("segjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
