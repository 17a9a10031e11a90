"""What every task shares names no task's own things."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "segjax"
SHARED = [
    *sorted((PACKAGE / "training").glob("*.py")),
    *sorted((PACKAGE / "parallel").glob("*.py")),
    *sorted((PACKAGE / "planning").glob("*.py")),
    *sorted((PACKAGE / "sweep").glob("*.py")),
    PACKAGE / "inference/engine.py",
    PACKAGE / "inference/evaluate.py",
    PACKAGE / "report/page.py",
    PACKAGE / "report/comparison.py",
    PACKAGE / "cli/assembly.py",
    PACKAGE / "cli/train.py",
]


@pytest.mark.parametrize("path", SHARED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_shared_code_knows_no_task(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bmiou\b|mIoU", text)
    if path.name != "evaluate.py":  # which renumbers label maps of other class lists
        assert not re.search(r"\bLABEL\b", text)
