from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.run_all import HERE, programs

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "run_all.py"


def test_every_program_is_there():
    for accelerator in (False, True):
        for script, *_ in programs(accelerator, Path("camvid")).values():
            assert (HERE / script).is_file(), script


def test_images_are_asked_of_those_who_have_them():
    assert "evaluation" not in programs(False, None)
    assert "--root=camvid" in programs(False, Path("camvid"))["evaluation"]


def test_a_dry_run_prints_and_an_unknown_name_is_named():
    done = subprocess.run([sys.executable, str(PROGRAM), "--dry-run", "--only", "ops"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "ops.py" in done.stdout
    done = subprocess.run([sys.executable, str(PROGRAM), "--only", "opps"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "opps: unknown here" in done.stderr
