from __future__ import annotations

import jax
import numpy as np
import pytest

from segjax.benchmarking.limits import Limits, bandwidth, compare
from segjax.training.throughput import matmul_flops

LIMITS = Limits(flops=100.0, bandwidth=10.0)


@pytest.mark.parametrize(("flops", "nbytes", "floor"), [(200, 5, (2.0, "arithmetic")), (100, 50, (5.0, "memory"))])
def test_the_floor_is_the_larger_time(flops, nbytes, floor):
    assert LIMITS.floor(flops, nbytes) == floor


def test_a_time_beside_the_floor():
    found = compare(10.0, LIMITS, 200.0, 5.0)
    assert found["floor_share"] == pytest.approx(0.2)
    assert found["utilisation"] == pytest.approx(0.2)
    assert found["bound"] == "arithmetic"


def test_nothing_is_claimed_of_unknown_work():
    assert set(compare(10.0, LIMITS, None, 5.0).values()) == {None, 5.0}


def test_the_measurements_divide_work_by_the_best_time(monkeypatch):
    from segjax.training import throughput

    ticks = iter(np.cumsum([0, 2, 5, 1] * 2).tolist())
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(next(ticks)))
    device = jax.devices("cpu")[0]
    assert bandwidth(device, 1000, repeats=2) == 3 * 4000 / 1
    assert matmul_flops(device, np.float32, size=8, repeats=2) == 2 * 8**3 / 1
