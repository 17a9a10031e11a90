"""A train step over clouds on several devices equals that on one, whatever share of the valid points each holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.tasks.points_on_devices import MESHES


def test_a_step_on_a_mesh_equals_one_device():
    program = [sys.executable, "-m", "tests.tasks.points_on_devices"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    record = json.loads(ended.stdout.splitlines()[-1])
    assert set(record) == set(MESHES)
    for mesh, found in record.items():
        assert max(found.values()) < 1e-8, (mesh, found)
