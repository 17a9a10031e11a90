"""Whole networks with images split by rows: what one device computes, and no image gathered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segjax.core.registry import entries

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "sharding.py"
ALWAYS = ("unet/test", "deeplabv3plus/test")
# Global attention needs all rows of the keys; its softmax is float32 whatever the network's type.
ATTENTION = ("segformer/test", "setr/test")
# A device refines all of the images that it shares.
GATHERS = ("crfasrnn/test",)
NETWORKS = [
    pytest.param(name, marks=() if name in ALWAYS else pytest.mark.slow)
    for name in (f"{entry.name}/test" for entry in entries())
]


@pytest.fixture(scope="module", params=NETWORKS)
def measured(request) -> tuple[str, dict]:
    ended = subprocess.run([sys.executable, str(PROGRAM), "networks", request.param], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return request.param, json.loads(ended.stdout)[request.param]


def test_training_equals_one_device(measured):
    name, record = measured
    for what in ("logits", "statistics", "parameter gradients", "image gradient"):
        assert record[what] < (1e-5 if name in ATTENTION else 1e-9), what


def test_rows_are_sent_and_never_gathered(measured):
    name, record = measured
    assert record["sent"] > 0
    # DeepLab gathers a map of 5 rows, which 4 devices cannot split, before enlarging it.
    assert record["gathered"] < (2 if name in GATHERS else 0.1 if name in ATTENTION else 0.02)
