from __future__ import annotations

import jax.numpy as jnp
import pytest

from segjax.benchmarking import timing


def test_a_round_holds_as_many_calls_as_fill_it(monkeypatch):
    now, calls = [0.0], [0]

    def call():
        now[0] += 0.05
        calls[0] += 1
        return jnp.zeros(())

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    found = timing.measure(call, rounds=3, warmup=2)
    assert found == pytest.approx([0.05] * 3)
    assert calls[0] == 2 + 1 + 3 * 4


def test_summary():
    assert timing.summary([3.0, 1.0, 2.0]) == {"median": 2.0, "fastest": 1.0, "slowest": 3.0, "rounds": 3}
