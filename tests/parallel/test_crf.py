"""A dense CRF on a mesh: each device its own images, and what one device computes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def record() -> dict:
    program = [sys.executable, "-m", "tests.parallel.crf_on_devices"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_prediction_equals_one_device(record: dict) -> None:
    assert record["labels"] == 0
    assert record["probabilities"] < 1e-5


@pytest.mark.parametrize("mesh", ["data 8", "data 2 x fsdp 2 x spatial 2"])
def test_values_and_gradients_equal_one_device(record: dict, mesh: str) -> None:
    assert record[mesh] < 1e-5


def test_devices_send_nothing_but_sums(record: dict) -> None:
    assert record["collectives"] == ["all-reduce"]
