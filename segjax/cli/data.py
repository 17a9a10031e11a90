"""Prepare, check or show a data set."""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    prepare = actions.add_parser(
        "prepare", help="write the set as ArrayRecord into the cache (training does so by itself)"
    )
    check = actions.add_parser("check", help="class frequencies, and every bad file; exit status 1 if there is one")
    show = actions.add_parser("show", help="write a contact sheet: image, label, overlay")
    for action in (prepare, check, show):
        action.add_argument("name", help="camvid, isbi2012, drive, crackforest, folder; show: scenes too")
        action.add_argument("--root", help="the set's own folder")
        action.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="an option of the set, as config.data.options has it; may be repeated",
        )
    for action in (prepare, show):
        action.add_argument("--cache", help="where prepared sets are kept; default $SEGJAX_CACHE or ~/.cache/segjax")
    show.add_argument("--split", help="which split; default the first")
    show.add_argument("--count", type=int, default=8, help="samples, spread over the split; default 8")
    show.add_argument("--output", default="sheet.png", help="picture to write; default sheet.png")


def run(args: argparse.Namespace) -> int:
    options = dict(_option(text) for text in args.option)
    return {"prepare": _prepare, "check": _check, "show": _show}[args.action](args, options)


def _prepare(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from segjax.data.prepare import prepare

    print(prepare(args.name, args.root, args.cache, options))
    return 0


def _check(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from segjax.data.check import check

    report = check(args.name, args.root, options)
    for line in report.lines():
        print(line)
    return 1 if report.problems else 0


def _show(args: argparse.Namespace, options: dict[str, Any]) -> int:
    import numpy as np

    from segjax.core.config import Data
    from segjax.core.errors import ConfigError
    from segjax.core.schema import IMAGE, LABEL
    from segjax.data.dataset import open_dataset
    from segjax.inference import draw

    if args.count < 1:
        raise ConfigError(f"--count: {args.count} is below 1.")
    dataset = open_dataset(Data(name=args.name, root=args.root, cache=args.cache, options=options))
    source = dataset.split(args.split or next(iter(dataset.splits)))
    rows = []
    for index in np.unique(np.linspace(0, len(source) - 1, min(args.count, len(source))).astype(int)):
        sample = source[int(index)]
        image, label = sample[IMAGE], sample[LABEL]
        parts = (draw.display(image), draw.colour_labels(label, dataset.info.palette))
        rows.append(_beside([*parts, draw.overlay(image, label, dataset.info.palette)]))
    sheet = _below([*rows, draw.legend(dataset.info.classes, dataset.info.palette)])
    print(draw.save_picture(args.output, sheet))
    return 0


def _beside(pictures: list[Any]) -> Any:
    import numpy as np

    gap = np.full((pictures[0].shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([piece for picture in pictures for piece in (gap, picture)][1:], axis=1)


def _below(pictures: list[Any]) -> Any:
    """Pictures of any width, one below the other on white."""
    import numpy as np

    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 4), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    return np.concatenate(padded)


def _option(text: str) -> tuple[str, Any]:
    import ast

    from segjax.core.errors import ConfigError

    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option: {text!r} is not KEY=VALUE, such as channels=5.")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
