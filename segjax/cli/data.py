"""Import annotations of other tools as a data set; prepare, check or show a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segjax.core.schema import DatasetInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    prepare = actions.add_parser(
        "prepare", help="write the set as ArrayRecord into the cache (training does so by itself)"
    )
    check = actions.add_parser("check", help="class frequencies, and every bad file; exit status 1 if there is one")
    show = actions.add_parser("show", help="write a contact sheet: image, label, overlay, instances")
    for action in (prepare, check, show):
        action.add_argument(
            "name",
            help="camvid, coco, isbi2012, drive, crackforest, folder; check, show: shapenet_part; show: scenes, clouds",
        )
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
    _add_import(actions)


def _add_import(actions: Any) -> None:
    parser = actions.add_parser(
        "import",
        help="write annotations of other tools as a `folder` data set; exit status 1 if something was dropped",
        description="Writes DIR/SPLIT/images, DIR/SPLIT/labels and DIR/classes.txt (docs/import_annotations.md).",
        allow_abbrev=False,
    )
    parser.add_argument("source", metavar="SRC", help="the annotations' file or folder")
    parser.add_argument(
        "--from", dest="source_format", required=True, metavar="FORMAT", help="coco, labelme, voc, cvat, cityscapes-ids"
    )
    parser.add_argument("--root", required=True, metavar="DIR", help="the data set to write; other splits in it stay")
    parser.add_argument("--split", help="what to call the split; default train, or the source's own splits")
    parser.add_argument("--images", metavar="DIR", help="where the images are, if not beside the annotations")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line, instead of the source's list")
    ways = parser.add_mutually_exclusive_group()
    for way, text in (
        ("copy", "copy the images (default)"),
        ("link", "make symbolic links to the images"),
        ("hard-link", "make hard links to the images"),
    ):
        ways.add_argument(f"--{way}", dest="transfer", action="store_const", const=way, default="copy", help=text)


def run(args: argparse.Namespace) -> int:
    if args.action == "import":
        return _import(args)
    options = dict(_option(text) for text in args.option)
    return {"prepare": _prepare, "check": _check, "show": _show}[args.action](args, options)


def _import(args: argparse.Namespace) -> int:
    from segjax.core.errors import ConfigError, suggest
    from segjax.data.annotations.importing import FORMATS, import_annotations

    if args.source_format not in FORMATS:
        raise ConfigError(f"--from: {args.source_format!r} is no format.{suggest(args.source_format, FORMATS)}")
    imported = import_annotations(
        args.source_format,
        args.source,
        args.root,
        split=args.split,
        images=args.images,
        classes=args.classes,
        transfer=args.transfer,
    )
    for line in imported.lines():
        print(line)
    return 1 if imported.tally.dropped else 0


def _prepare(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from segjax.data.prepare import prepare

    print(prepare(args.name, args.root, args.cache, options))
    return 0


def _check(args: argparse.Namespace, options: dict[str, Any]) -> int:
    from segjax.data.builders import AS_THEY_ARE
    from segjax.data.check import check
    from segjax.data.check_clouds import check_clouds

    clouds = args.name in AS_THEY_ARE
    report = check_clouds(args.root, options) if clouds else check(args.name, args.root, options)
    for line in report.lines():
        print(line)
    return 1 if report.problems else 0


def _show(args: argparse.Namespace, options: dict[str, Any]) -> int:
    import numpy as np

    from segjax.core.config import Data
    from segjax.core.errors import ConfigError
    from segjax.core.schema import LABEL, POINTS
    from segjax.data.dataset import open_dataset
    from segjax.inference import draw

    if args.count < 1:
        raise ConfigError(f"--count: {args.count} is below 1.")
    dataset = open_dataset(Data(name=args.name, root=args.root, cache=args.cache, options=options))
    source = dataset.split(args.split or next(iter(dataset.splits)))
    chosen = np.unique(np.linspace(0, len(source) - 1, min(args.count, len(source))).astype(int))
    samples = [source[int(index)] for index in chosen]
    sheet = [_beside(_pictures(sample, dataset.info)) for sample in samples]
    if not samples[0].keys().isdisjoint((LABEL, POINTS)):
        sheet.append(
            draw.legend(dataset.info.classes, dataset.info.palette, columns=4 if dataset.info.num_classes < 40 else 10)
        )
    print(draw.save_picture(args.output, _below(sheet)))
    return 0


def _pictures(sample: dict[str, Any], info: DatasetInfo) -> list[Any]:
    """A sample's image and annotations, as pictures of one size; or a cloud in the colours of its parts."""
    from segjax.core.schema import IMAGE, INSTANCE, INSTANCE_CLASS, INSTANCE_CROWD, LABEL, POINTS
    from segjax.inference import draw
    from segjax.inference.draw_instances import instance_overlay, magnification
    from segjax.tasks import make_view

    if POINTS in sample:
        return [make_view("points").truth(sample, info).overlay(sample[POINTS])]
    image = sample[IMAGE]
    found = [draw.display(image)]
    if LABEL in sample:
        found += [draw.colour_labels(sample[LABEL], info.palette), draw.overlay(image, sample[LABEL], info.palette)]
    if INSTANCE in sample:
        tags = info.num_classes > 1
        times = magnification(image.shape[:2]) if tags else 1
        found = [picture.repeat(times, 0).repeat(times, 1) for picture in found]
        classes, crowd = sample[INSTANCE_CLASS], sample[INSTANCE_CROWD]
        found.append(instance_overlay(image, sample[INSTANCE], classes, info.classes, crowd=crowd, tags=tags))
    return found


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
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return key, value
