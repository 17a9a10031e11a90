"""Mutated files end in one line or in the right result: pictures, labels, class lists, configs, weights (fuzz.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fuzz.py")
MINUTES = 15  # of the longest run; a case's own limit is fuzz.SECONDS


def fuzz(first, count):
    # In a process of its own, whose largest size is the readers' and not the suite's.
    command = [sys.executable, str(PROGRAM), f"--first={first}", f"--count={count}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * MINUTES, check=False)
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(record, count):
    assert not record["failures"], record["failures"][:5]
    assert sum(sum(outcomes.values()) for outcomes in record["outcomes"].values()) == count
    for kind, outcomes in record["outcomes"].items():
        # Mutations that never, or always, break a file would test nothing.
        assert outcomes.get("read", 0) > 0, (kind, outcomes)
        assert outcomes.get("refused", 0) > 0 or kind == "data set", (kind, outcomes)


def test_five_hundred_cases():
    check(fuzz(0, 500), 500)


@pytest.mark.slow
def test_ten_thousand_cases():
    check(fuzz(0, 10_000), 10_000)
