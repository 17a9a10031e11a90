"""The folder for what can be made again: prepared data sets and compiled programs."""

from __future__ import annotations

import os
from pathlib import Path

from segjax.core.errors import StorageError


def cache_root() -> Path:
    """$SEGJAX_CACHE, or ~/.cache/segjax.

    Raises:
      StorageError: neither that variable nor a home folder is set, as for a user without an entry in /etc/passwd.
    """
    try:
        return Path(os.environ.get("SEGJAX_CACHE") or "~/.cache/segjax").expanduser()
    except RuntimeError as error:
        raise StorageError("there is no home folder; set SEGJAX_CACHE to a folder for prepared data.") from error
