"""The steps' metrics between two log lines."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from segjax.core.errors import SegjaxError
from segjax.training.writer import Console

RUN_AHEAD = 2
"""Steps the host may be ahead of the devices: enough to keep them busy, few enough not to pile up batches."""


class History:
    """Keeps the steps' metrics on the device until a log line asks for them, and watches for non-finite losses."""

    def __init__(self, stop_on_nan: bool, console: Console):
        self._stop, self._console = stop_on_nan, console
        self._pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()
        self._nonfinite = 0

    def add(self, step: int, values: dict[str, jax.Array]) -> None:
        """Takes a step's metrics; waits for those of `RUN_AHEAD` steps before."""
        self._pending.append((step, values))
        if len(self._pending) > RUN_AHEAD:
            self._pending[-1 - RUN_AHEAD][1]["loss"].block_until_ready()

    def drain(self) -> dict[str, float]:
        """`record` of the steps since the last call."""
        return self.record(*self.fetch())

    def fetch(self) -> tuple[list[int], list[dict[str, Any]]]:
        """The steps since the last call and their metrics, on the host."""
        steps = [step for step, _ in self._pending]
        values = jax.device_get([values for _, values in self._pending])
        self._pending.clear()
        return steps, values

    def record(self, steps: Sequence[int], values: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Means over steps; learning rate and parameter norm are the last step's.

        Raises:
          SegjaxError: names the first step whose loss or gradient is not finite, if the run is to stop at it.
        """
        bad = [step for step, v in zip(steps, values) if not (np.isfinite(v["loss"]) and np.isfinite(v["grad_norm"]))]
        if bad:
            self._nonfinite += len(bad)
            loss = values[steps.index(bad[0])]["loss"]
            message = (
                f"the loss or its gradient became non-finite at step {bad[0]} (loss {loss}, {len(bad)} of the last "
                f"{len(steps)} steps)"
            )
            if self._stop:
                raise SegjaxError(
                    f"{message}; lower config.optim.learning_rate or set config.optim.clip_norm, and go on from the "
                    "last checkpoint with --resume; config.train.stop_on_nan=False lets it run."
                )
            self._console.line(f"warning: {message}")
        record = {key: float(np.mean([v[key] for v in values], dtype=np.float64)) for key in values[0]}
        record |= {key: float(values[-1][key]) for key in ("learning_rate", "param_norm")}
        return record | {"nonfinite_steps": float(self._nonfinite)}
