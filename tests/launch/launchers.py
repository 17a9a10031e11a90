"""Runs a launcher as a login node would: its own folder and the standard library, nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "launch"
BARE = (sys.executable, "-S", "-E")
"""Without site-packages: an import of jax, numpy or segjax fails."""


def launch(name: str, *words: str, **options) -> subprocess.CompletedProcess:
    """`launch/NAME.py WORDS`, ended, with its text."""
    command = [*BARE, str(FOLDER / f"{name}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
