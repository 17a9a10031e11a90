"""Whole networks with images split by rows: what one device computes, and no image gathered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKS = ("enet/test", "unet/test", "deeplabv3plus/test", "segnet/test", "segformer/test")


@pytest.fixture(scope="module")
def record() -> dict:
    program = [sys.executable, "-m", "tests.parallel.sharded_networks", *NETWORKS]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("what", ["logits", "statistics", "parameter gradients", "image gradient"])
def test_training_equals_one_device(record, name, what):
    assert record[name][what] < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_are_sent_and_never_gathered(record, name):
    assert record[name]["sent"] > 0
    # DeepLab gathers a map of 5 rows, which 4 devices cannot split, before enlarging it.
    assert record[name]["gathered"] < 0.02
