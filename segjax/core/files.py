"""Whole-file writes: a file is complete under its name or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from segjax.core.errors import StorageError


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes `data` to `path` through a temporary neighbour, so that a full disk never leaves half a file.

    Raises:
      StorageError: when the folder cannot be made or the file cannot be written; what stood there before stays.
    """
    path = Path(path)
    temporary = None
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or device, which is not to be replaced
            path.write_bytes(data)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                os.unlink(temporary)
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}; free space, or choose another place."
        ) from error
    return path


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` of UTF-8; bytes of a file's name that are no text are written as `\\udcff`."""
    return write_bytes(path, text.encode(errors="backslashreplace"))


def _umask() -> int:
    """The process's file mode mask; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
