"""Real processes for the tests of this folder, and disks of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = [sys.executable, "-m", "tests.faults.toy_process"]
SEGJAX = [sys.executable, "-m", "segjax.cli.main"]


def environment(**variables: str | None) -> dict[str, str]:
    """This process's, with changes; None removes a variable."""
    found = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **variables}
    return {key: value for key, value in found.items() if value is not None}


def one_line(done: subprocess.CompletedProcess, verb: str) -> str:
    """The one line of standard error, after which the process ended with 2."""
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"segjax {verb}: ")
    return lines[0]


def call(command: Sequence[str], **options) -> subprocess.CompletedProcess:
    options = {"capture_output": True, "text": True, "timeout": 240, "env": environment(), "cwd": ROOT, **options}
    return subprocess.run([str(word) for word in command], **options)


def fill(path: Path) -> None:
    """Writes a file until nothing more fits."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own in memory; skips the test where that cannot be had."""
    folder.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this machine allows no tmpfs mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
