"""The same step on eight simulated devices as on one, in a subprocess: the device count is fixed when jax starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def record() -> dict:
    program = Path(__file__).parent / "simulated_devices.py"
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_mesh_takes_the_same_step(record: dict) -> None:
    assert record["devices"] == 8
    assert len(record["difference"]) == 8
    for name, difference in record["difference"].items():
        assert difference < 2e-5, name


def test_sums_in_bfloat16_are_near(record: dict) -> None:
    assert 0 < record["bfloat16 sums"] < 1e-3  # a step of 0.1 times gradients of about 1, rounded to 8 bits


def test_fsdp_splits_parameters_and_moments_alike(record: dict) -> None:
    assert record["fsdp"] == [[3, 3, 3, 8], [3, 3, 3, 2], True]


def test_rules_decide_before_sizes(record: dict) -> None:
    assert record["rules"] == [[3, 3, 3, 2], [3, 3, 3, 8], [1, 1, 2, 2]]


def test_batches_are_split_over_data_and_height(record: dict) -> None:
    assert record["shards"] == {"image": [4, 2, 8, 3], "label": [4, 2, 8], "valid": [4]}
    assert record["values"]
    assert record["odd height"] == [4, 6, 8, 3]


def test_the_rows_of_one_image_over_all_devices(record: dict) -> None:
    assert record["one image over eight devices"] < 1e-5


def test_a_checkpoint_moves_to_another_mesh(record: dict) -> None:
    assert record["moved"]
    assert record["moved to"] == 2


def test_impossible_meshes_and_batches(record: dict) -> None:
    spatial, count, pmap, sums, narrow, axis, regex, nothing, batch = record["errors"]
    assert spatial.startswith("config.parallel: spatial=3 times fsdp=1 does not divide the 8 devices")
    assert count.startswith("config.parallel: data=2 x fsdp=1 x spatial=2 needs 4 devices, there are 8")
    assert pmap.startswith("config.parallel.backend: pmap needs config.parallel.spatial=1, and it is 2")
    assert sums.startswith("config.parallel.gradients: float32 needs config.parallel.fsdp=1, and it is 2")
    assert narrow.startswith("config.parallel.gradients: bfloat16, on CPUs, needs config.parallel.spatial=1")
    assert axis == (
        "config.parallel.rules: 'stem/kernel' splits axis 2 over fsdp=4, but stem/kernel has the shape (3, 3, 3, 8); "
        "take an axis that divides, or None."
    )
    assert regex.startswith("config.parallel.rules: 'stem/(' is no regular expression")
    assert nothing.startswith("config.parallel.rules: 'stam' matches nothing; paths look like 'params/")
    assert batch == (
        "config.train.batch_size: 12 does not split over 8 devices x 2 micro-batches; take a multiple of 16, such as "
        "16."
    )
