"""Every operation with its rows split over devices: what one device computes, and no collective of a whole image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from segjax.ops.ambient import BATCH, ROWS, row_shards
from segjax.parallel.mesh import DATA, FSDP, SPATIAL, make_mesh
from tests.ops.sharded_cases import CASES, NATIVE


@pytest.fixture(scope="module", params=["even", "uneven", "native"])
def measured(request) -> tuple[str, dict]:
    """Which heights, and what was measured of every operation; one process for all, whatever their number."""
    program = Path(__file__).parent / "sharded_cases.py"
    # The programs that are read are optimised, unlike the suite's.
    environment = {key: value for key, value in os.environ.items() if key != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    command = [sys.executable, str(program), request.param]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return request.param, json.loads(ended.stdout.splitlines()[-1])


def test_values_and_gradients_are_those_of_one_device(measured):
    rows, record = measured
    assert set(record) == set(NATIVE if rows == "native" else CASES)
    assert {name: found["errors"] for name, found in record.items() if not max(found["errors"]) < 1e-5} == {}


def test_no_collective_returns_half_an_image(measured):
    for name, found in measured[1].items():
        moved = dict(found["moved"])
        moved.pop("collective-permute", 0)  # sends a device's own rows; each at most once a direction and hop
        assert all(share < 1 for share in moved.values()), (name, moved)


def test_operations_on_windows_gather_nothing_at_all(measured):
    rows, record = measured
    if rows == "even":
        for name in ("3x3", "rate 12", "rate 24", "max 3x3 stride 2", "bilinear x2", "transposed 4x4"):
            assert "all-gather" not in record[name]["moved"], name
            assert "collective-permute" in record[name]["moved"], name


def test_the_axes_are_the_meshs():
    assert ROWS == SPATIAL
    assert BATCH == (DATA, FSDP)


def test_rows_are_whole_without_a_mesh_and_inside_a_shard_map():
    assert row_shards() == 1
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        assert row_shards() == 1
    split = jax.sharding.AbstractMesh((1, 4), ("data", ROWS), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.sharding.use_abstract_mesh(split):
        assert row_shards() == 4
        seen = []

        def body(x):
            seen.append(row_shards())
            return x

        rows = jax.sharding.PartitionSpec(None, ROWS)
        jax.eval_shape(jax.shard_map(body, in_specs=rows, out_specs=rows, axis_names={ROWS}), jnp.zeros((1, 8, 1, 1)))
        assert seen == [1]
