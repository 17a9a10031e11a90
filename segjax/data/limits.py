"""How large a picture may be, asked before anything of it is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from segjax.core.errors import ConfigError, DataError

MAX_PIXELS = "SEGJAX_MAX_PIXELS"
_DEFAULT = 178_956_970  # Pillow's: a quarter of 2 GiB at three bytes a pixel


def max_pixels() -> int:
    """The most pixels of a picture that is read whole: $SEGJAX_MAX_PIXELS, or Pillow's 178,956,970."""
    text = os.environ.get(MAX_PIXELS)
    try:
        limit = _DEFAULT if not text else int(float(text))
        if limit < 1:
            raise ValueError(text)
        return limit
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{MAX_PIXELS}={text!r} is not a number of pixels, such as 500000000.") from error


def check_pixels(path: Path, height: int, width: int) -> None:
    """Raises DataError for a picture of more pixels than the limit, which $SEGJAX_MAX_PIXELS sets."""
    limit = max_pixels()
    if height * width > limit:
        raise DataError(
            f"{path}: {height}x{width} is {height * width:,} pixels, the limit is {limit:,}; raise it with"
            f" {MAX_PIXELS}=N, cut the picture, or label a TIFF of any size with `segjax predict --window`."
        )
