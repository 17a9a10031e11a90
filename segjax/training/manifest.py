"""The manifest of a checkpoint, the SHA-256 of each file, and what it tells of a step's folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from segjax.core.errors import CheckpointError, reason

MANIFEST = "manifest.json"
UNSEALED = "_CHECKPOINT_METADATA"
"""Orbax stamps its time into it after the manifest is written; it holds nothing of the state."""


def committed_steps(directory: Path) -> list[int]:
    """The steps whose folders have their final name, whole or not, in order."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def damage(folder: Path) -> str | None:
    """What is wrong with a step's folder, or None: each file of its manifest is read and compared.

    Raises:
      CheckpointError: a file that this user may not read, which says nothing of what is in it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, (size, digest) in manifest.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes instead of {size}"
            if _digest(path) != digest:
                return f"{name} does not match its checksum"
    except FileNotFoundError:
        return "it was not written to its end"
    except PermissionError as error:
        raise CheckpointError(f"{reason(error)}; let this user read the checkpoint.") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{MANIFEST} is unreadable ({error})"
    return None


def checksums(folder: Path) -> dict[str, tuple[int, str]]:
    """{file: (bytes, SHA-256)} of a step's folder: what its manifest holds."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, UNSEALED))
    return {path.relative_to(folder).as_posix(): (path.stat().st_size, _digest(path)) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def set_aside(folder: Path) -> None:
    """Renames a damaged step's folder, so that the step can be saved again."""
    target, count = folder.with_name(f"damaged-{folder.name}"), 1
    while target.exists():
        count += 1
        target = folder.with_name(f"damaged-{folder.name}-{count}")
    folder.rename(target)
