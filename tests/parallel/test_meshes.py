"""Whole networks on every kind of mesh: the first step's loss and gradients in float32, and 20 steps in float64, which
tells a wrong program from rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parallel.training_on_meshes import MESHES

NETWORKS = ("unet/test", "deeplabv3plus/test", "pspnet/test", "enet/test", "hrnet/test")


@pytest.mark.slow  # a dozen compilations a network
@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_a_mesh_equals_one_device(name):
    program = [sys.executable, "-m", "tests.parallel.training_on_meshes", json.dumps({name: list(MESHES)})]
    # Compiled as a user's: in float32 the suite's cheap programs may round a ReLU's input to its other side.
    suite = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
    environment = {key: value for key, value in os.environ.items() if key not in suite}
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2], env=environment)
    assert ended.returncode == 0, ended.stderr
    record = json.loads(ended.stdout.splitlines()[-1])[name]
    assert set(record) == set(MESHES)
    for mesh, found in record.items():
        assert found["losses"] < 1e-9, mesh
        assert found["parameters"] < 1e-9, mesh
        assert found["first loss"] < 1e-5, mesh
        assert found["first gradients"] < 1e-5, mesh
