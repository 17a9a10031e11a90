"""Options that say how a network is shown an image: shared by evaluate and predict."""

from __future__ import annotations

import argparse
import re
from typing import Any

from segjax.core.config import from_dict, set_text
from segjax.core.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the network sees an image (default: the checkpoint's config.eval)")
    group.add_argument("--scales", type=scales, metavar="0.5,1.0", help="average the probabilities over these scales")
    group.add_argument(
        "--flip", action=argparse.BooleanOptionalAction, default=None, help="average with the mirrored image"
    )
    group.add_argument(
        "--window",
        nargs="+",
        action=_Window,
        metavar="SIZE",
        help="slide a window: HEIGHT WIDTH or HEIGHTxWIDTH pixels, such as 512 512; none sees the image whole",
    )
    group.add_argument("--overlap", type=float, metavar="SHARE", help="share of a window the next one covers again")
    group.add_argument(
        "--blend", metavar="gaussian|uniform|centre", help="weights of overlapping windows; centre cuts them instead"
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="images a forward pass")
    group.add_argument(
        "--crf",
        nargs="?",
        const="",
        type=crf,
        metavar="KEY=VALUE,...",
        help="refine with a dense CRF over the image; keys of config.eval.crf, such as theta_beta=5,iterations=10",
    )


def update(record: dict[str, Any], args: argparse.Namespace) -> None:
    """Sets the options that were given in `record`, config.eval as a nested dict."""
    names = ("scales", "flip", "window", "overlap", "blend", "batch_size")
    record.update({name: getattr(args, name) for name in names if getattr(args, name) is not None})
    if args.crf is not None:
        record["crf"] = {**record["crf"], **args.crf}


def scales(text: str) -> list[float]:
    """`0.5,1.0` as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--scales: {text!r} is not a list of numbers such as 0.5,1.0,1.5.") from error


def window(text: str) -> list[int] | None:
    """`512x512`, `512 512` or `512,512` as (height, width); `none` sees the image whole."""
    if text.lower() == "none":
        return None
    try:
        height, width = (int(part) for part in re.split(r"[x,\s]+", text.lower().strip()))
    except ValueError as error:
        raise ConfigError(f"--window: {text!r} is not HEIGHTxWIDTH, such as 512x512 or 512 512.") from error
    return [height, width]


class _Window(argparse.Action):
    """One or two words of `--window`."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, window(" ".join(values)))


def crf(text: str) -> dict[str, Any]:
    """`theta_beta=5,iterations=10` as keys of config.eval.crf; none of them enables it with its defaults."""
    record: dict[str, Any] = {"eval": {"crf": {"enabled": True}}}
    for item in re.split(r",(?![^()]*\))", text) if text else ():
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--crf: {item!r} is not KEY=VALUE, such as theta_beta=5.")
        set_text(record, f"eval.crf.{key.strip()}", value.strip())
    from_dict(record)  # names a wrong value before anything is loaded
    return record["eval"]["crf"]
