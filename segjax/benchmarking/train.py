"""The train step: alone on a batch that stays on the devices, behind the input pipeline, compiled, and in memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from segjax.benchmarking.limits import Limits, compare, must_move
from segjax.benchmarking.timing import measure, summary
from segjax.core.config import Config
from segjax.parallel.mesh import make_mesh
from segjax.planning import memory
from segjax.tasks.base import Task, Transform
from segjax.training.program import make_program
from segjax.training.state import init_state
from segjax.training.throughput import Meter, device_memory_bytes, host_memory_bytes, step_flops

Batch = Mapping[str, np.ndarray]


class Subject:
    """A config's train step and its state, initial, on the mesh of the config; `run` takes one step."""

    def __init__(
        self, config: Config, *, model: Any, task: Task, transform: Transform | None, variables: Any, batch: Batch
    ):
        """
        Args:
          config: the run's.
          model, task, transform, variables: as `training.loop.train` takes them.
          batch: this process's share of one batch, from the host.
        """
        self.config = config
        self.mesh = make_mesh(config.parallel.data, config.parallel.spatial, config.parallel.fsdp)
        self._made = {"model": model, "task": task, "transform": transform, "variables": variables}
        self.program = self._program()
        ema, rules = config.train.ema is not None, config.parallel.rules
        self.state = init_state(variables, self.program.tx, self.mesh, ema=ema, rules=rules)
        self.batch = self.program.put(batch)
        self._compiled = None

    def _program(self) -> Any:
        return make_program(self.config, **self._made, mesh=self.mesh, steps=1000)

    def lower(self) -> Any:
        """The step, traced and lowered anew."""
        program = self._program()
        with program.ambient():
            return program.step.lower(self.state, self.batch)

    @property
    def compiled(self) -> Any:
        """The compiled step; `lowered` is set with it."""
        if self._compiled is None:
            self.lowered = self.lower()
            self._compiled = self.lowered.compile()
        return self._compiled

    def run(self, batch: Mapping[str, Any] | None = None) -> Any:
        """One step on a batch that is on the devices, by default the subject's; returns its metrics."""
        with self.program.ambient():
            self.state, values = self.compiled(self.state, self.batch if batch is None else batch)
        return values

    @property
    def flops(self) -> float | None:
        """Of a step over all devices, by `step_flops`."""
        return step_flops(self.lowered, repeats=self.config.train.accumulate * self.program.parts)

    @property
    def nbytes(self) -> float | None:
        """Of a step over all devices, by `must_move`."""
        return must_move(self.compiled, self.mesh.size)


def benchmark_train(
    subject: Subject, limits: Limits, *, rounds: int, batches: Iterator[Batch] | None, steps: int
) -> dict[str, Any]:
    """Times the step alone, then `steps` of them behind the pipeline.

    Args:
      subject: what is timed.
      limits: of its devices.
      rounds: of the step alone.
      batches: the input pipeline; None leaves the second part out.
      steps: of the second part, after two to fill the pipeline.
    """
    size = subject.config.train.batch_size
    subject.compiled  # noqa: B018 - compiled before the clock starts
    seconds = measure(subject.run, rounds)
    middle = summary(seconds)
    record = {
        "step": middle,
        "images_per_second": size / middle["median"],
        **compare(middle["median"], limits, subject.flops, subject.nbytes),
        "device_memory": device_memory_bytes(),
        "host_memory": host_memory_bytes(),
    }
    if batches is not None:
        record["pipeline"] = _behind(subject, batches, steps)
    return record


def _behind(subject: Subject, batches: Iterator[Batch], steps: int) -> dict[str, float]:
    """As the training loop runs it: fetch, place, start the step, and wait at the end only."""
    meter = Meter(subject.config.train.batch_size, None, None)
    values = None
    for step in itertools.count(-2):
        if step == 0:
            jax.block_until_ready(values)
            meter.reset()
        if step == steps:
            break
        asked = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - asked
        values = subject.run(subject.program.put(batch))
        meter.add(waited)
    jax.block_until_ready(values)
    rates = meter.rates()
    return {key: rates[key] for key in ("images_per_second", "step_seconds", "data_wait")} | {"steps": steps}


def benchmark_memory(subject: Subject) -> dict[str, Any]:
    """What a device holds in a step by the compiler's account (`planning.memory`), and what the backend measured."""
    known = memory.arguments(subject.state, subject.batch)
    parts = memory.table(known, subject.compiled.memory_analysis())
    jax.block_until_ready([subject.run(), subject.run()])
    return {
        "parts": parts,
        "needed": sum(parts.values()),
        "device_memory": device_memory_bytes(),
        "host_memory": host_memory_bytes(),
    }
