"""The clock of the benchmarks that compare programs in one process."""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
from pathlib import Path

import pytest

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")


@pytest.fixture
def turns(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("turns")
    sys.modules.pop("turns")


def test_the_order_turns_round(turns):
    called = []
    turns.alternate({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=3)
    assert "".join(called) == "abbaab"


def test_no_fewer_than_three_rounds(turns):
    times = turns.alternate({"a": lambda: None}, rounds=9, seconds=0.0)
    assert len(times["a"]) == 3


def test_a_record_holds_medians_and_circumstances(turns, monkeypatch):
    # A clock that only the slow call moves: by 1, 2, ..., 5 seconds.
    now, steps = [0.0], itertools.count(1)
    monkeypatch.setattr(turns.time, "perf_counter", lambda: now[0])

    def slow():
        now[0] += next(steps)

    args = argparse.Namespace(rounds=5, seconds=1e9, size=(8, 16), batch=2, dtype="float32")
    record = turns.timed({"slow": slow, "fast": lambda: None}, args, memory_kept=False)
    assert (record["slow"], record["fast"]) == (3, 0)
    assert record["fastest"] == {"slow": 1, "fast": 0}
    assert record["rounds"] == 5
    assert record["freed memory kept"] is False
    assert record["size"] == [8, 16]
    assert {"commit", "versions", "device"} <= set(record)
