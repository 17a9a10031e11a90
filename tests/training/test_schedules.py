from __future__ import annotations

import math

import numpy as np
import pytest

from segjax.core.config import Schedule
from segjax.training.schedules import make_schedule


def _expected(name: str, p: float) -> float:
    if name == "poly":
        return 0.1 + 0.9 * (1 - p) ** 0.9
    if name == "cosine":
        return 0.1 + 0.9 * (1 + math.cos(math.pi * p)) / 2
    if name == "step":
        return 0.5 ** ((p >= 0.25) + (p >= 0.75))
    return 1.0


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("name", ["poly", "cosine", "step", "constant"])
def test_formulas(name: str, warmup: int) -> None:
    steps, peak = 50, 0.3
    config = Schedule(name=name, warmup_steps=warmup, power=0.9, end=0.1, boundaries=(0.25, 0.75), factor=0.5)
    schedule = make_schedule(config, peak, steps)
    for step in range(steps):
        p = max(0, step - warmup) / (steps - warmup)
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        np.testing.assert_allclose(schedule(step), peak * rise * _expected(name, p), rtol=1e-5)


def test_warmup_as_long_as_the_run() -> None:
    schedule = make_schedule(Schedule(name="cosine", warmup_steps=100), 1.0, 10)
    np.testing.assert_allclose([schedule(step) for step in range(10)], np.arange(1, 11) / 10, rtol=1e-6)
