"""Options that say how a network is shown an image: shared by evaluate and predict."""

from __future__ import annotations

import argparse
from typing import Any

from segjax.core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the network sees an image (default: the checkpoint's config.eval)")
    group.add_argument("--scales", type=scales, metavar="0.5,1.0", help="average the probabilities over these scales")
    group.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, default=None, help="average with the mirrored image"
    )
    group.add_argument("--window", type=window, metavar="512x512", help="slide a window of HEIGHTxWIDTH pixels")
    group.add_argument("--overlap", type=float, metavar="SHARE", help="share of a window the next one covers again")
    group.add_argument("--batch-size", type=int, metavar="N", help="images a forward pass")


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were set, as keys of config.eval."""
    names = ("scales", "flip", "window", "overlap", "batch_size")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def scales(text: str) -> list[float]:
    """`0.5,1.0` as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--scales: {text!r} is not a list of numbers such as 0.5,1.0,1.5.") from error


def window(text: str) -> list[int] | None:
    """`512x512` as (height, width); `none` sees the image whole."""
    if text.lower() == "none":
        return None
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConfigError(f"--window: {text!r} is not HEIGHTxWIDTH, such as 512x512.") from error
    return [height, width]
