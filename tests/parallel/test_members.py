"""A sweep's members split over devices, against a run of one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_six_members_on_four_devices_equal_runs_of_their_own() -> None:
    program = Path(__file__).parent / "members_on_devices.py"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert record["devices"] == 4
    assert record["rows"] == [0, 1, 2, 3, 4, 5, 5, 5]
    assert record["two"] == 2
    assert record["shared"] < 1e-9
    assert record["own"] < 1e-9
    assert record["shared devices"] == record["own devices"] == 1
