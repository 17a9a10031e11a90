"""What a program needs to know of a data set: classes, channels and the largest image, from the data or from flags."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from segjax.core.config import Config
    from segjax.data.dataset import Dataset


_INSTANCES = 100
"""Of an image of a set that is imagined."""


class Known(NamedTuple):
    """Of a config's data set.

    Attributes:
      dataset: without images where it is imagined.
      largest: (height, width) of its largest training image; None: any.
      samples: training images.
    """

    dataset: Dataset
    largest: tuple[int, int] | None
    samples: int


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """`--classes`, `--channels`, `--image-size`."""
    parser.add_argument("--classes", type=int, metavar="K", help="do without the data set, with so many classes")
    parser.add_argument("--channels", type=int, metavar="C", default=3, help="of the images, with --classes")
    parser.add_argument("--image-size", metavar="HxW", help="largest image, with --classes; default: any")


def known_data(args: argparse.Namespace, config: Config) -> Known:
    """The config's data set, or with `--classes` one without images.

    Raises:
      DataError: no data set there.
      ConfigError: flags that are no numbers or sizes.
    """
    from segjax.core.errors import DataError
    from segjax.data.dataset import open_dataset

    if args.classes is not None:
        return Known(_imagined(args, config), _size(args.image_size), 1000)
    try:
        dataset = open_dataset(config.data)
    except DataError as error:
        raise DataError(f"{error} To do without the data, give --classes=K.") from error
    source = dataset.split(config.data.train_split)
    return Known(dataset, source.largest, len(source))


def _imagined(args: argparse.Namespace, config: Config) -> Dataset:
    import numpy as np

    from segjax.core.errors import ConfigError
    from segjax.core.schema import IMAGENET_MEAN, IMAGENET_STD, DatasetInfo
    from segjax.data.dataset import Dataset

    if args.classes < 2 or args.channels < 1:
        raise ConfigError(f"--classes={args.classes} --channels={args.channels}: at least 2 and 1.")
    info = DatasetInfo(
        config.data.name,
        tuple(f"class {k}" for k in range(args.classes)),
        ((0, 0, 0),) * args.classes,
        channels=args.channels,
        mean=IMAGENET_MEAN if args.channels == 3 else (0.0,) * args.channels,
        std=IMAGENET_STD if args.channels == 3 else (1.0,) * args.channels,
        things=tuple(range(args.classes)),
        layers=1,
        max_instances=_INSTANCES,
    )
    # Class weights are counted on the training split: as if all classes were equally frequent.
    ones = np.ones(args.classes, np.int64)
    names = config.data.train_split.split("+")
    return Dataset(info, dict.fromkeys(names), dict.fromkeys(names, (ones, ones)))


def _size(text: str | None) -> tuple[int, int] | None:
    from segjax.core.errors import ConfigError

    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ConfigError(f"--image-size: {text!r} is no size such as 1024x2048.")
    return int(height), int(width)
