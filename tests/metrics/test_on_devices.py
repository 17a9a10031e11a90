"""A batch that is divided over devices has the state of the same batch on one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_states_are_those_of_one_device() -> None:
    program = [sys.executable, "-m", "tests.metrics.on_devices"]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
