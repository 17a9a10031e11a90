"""Where a number comes from: command, commit, versions, device. Kept beside every score."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

import segjax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def provenance() -> dict[str, Any]:
    """JSON values: `command`, `commit` (None outside a checkout; `+changes` where files differ), `time`, `versions`,
    `device`."""
    return {
        "command": _command(),
        "commit": commit(),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "device": device(),
    }


def versions() -> dict[str, str]:
    """Versions of segjax, Python and what computes; a package that is not installed is left out."""
    found = {"segjax": segjax.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def device() -> str:
    """Such as `2 x TPU v5 lite` or `1 x cpu (x86_64, 2 cores)`."""
    devices = jax.devices()
    text = f"{len(devices)} x {devices[0].device_kind}"
    if devices[0].platform != "cpu":
        return text
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{text} ({platform.machine()}, {cores} cores)"


def commit() -> str | None:
    """The commit of the checkout that segjax was imported from."""
    root = Path(segjax.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + "+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _command() -> str:
    program = Path(sys.argv[0])
    name = "segjax" if program.parent.name == "cli" or program.name == "segjax" else program.name
    return shlex.join([name, *sys.argv[1:]])
