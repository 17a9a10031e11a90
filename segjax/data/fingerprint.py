"""What decides how a network is trained on a data set: sizes, classes and their shares, how thin their regions are.

The name and the idea are nnU-Net's (Isensee et al., Nature Methods 18, 2021, "data fingerprint").
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, LABEL, DatasetInfo
from segjax.data.dataset import Dataset
from segjax.data.sampling import epoch_order

LOOKED_AT = 64  # images, drawn from the split, that stand for all where the prepared copy has no figure
PIXELS = 2**28  # after so many no further image is looked at: a few huge ones say as much


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Of a data set, as seen from its training split.

    Attributes:
      info: names, channels, pixel type.
      splits: {split: number of images}.
      split: the split that was measured.
      images: number of its images.
      largest: greatest (height, width), each over all images of all splits.
      median: median (height, width) of the training images looked at, each by itself.
      shares: [K], each class's share of the labelled training pixels.
      void: share of void among the pixels looked at.
      widths: [K], mean width of a class's regions in pixels: twice their area by the length of their border, which is
        the width of a line or half a disc's diameter. None for a class that has no border in the images looked at.
      looked_at: number of images looked at.
    """

    info: DatasetInfo
    splits: Mapping[str, int]
    split: str
    images: int
    largest: tuple[int, int]
    median: tuple[int, int]
    shares: tuple[float, ...]
    void: float
    widths: tuple[float | None, ...]
    looked_at: int

    @property
    def thinnest(self) -> float | None:
        """The smallest of `widths`, in pixels."""
        return min((width for width in self.widths if width is not None), default=None)

    def lines(self) -> list[str]:
        """The fingerprint for people, a class a line."""
        info, (height, width) = self.info, self.median
        splits = ", ".join(f"{count} {name}" for name, count in self.splits.items())
        found = [
            f"data: {splits}; {info.channels} channels of {info.image_dtype}, median {height}x{width} (height x width),"
            f" up to {self.largest[0]}x{self.largest[1]}, {self.void:.1%} void; {self.looked_at} images looked at"
        ]
        longest = max(len(name) for name in info.classes)
        for name, share, wide in zip(info.classes, self.shares, self.widths):
            shown = "" if wide is None else f", {wide:.1f} pixels wide"
            found.append(f"  {name:<{longest}}  {share:8.3%} of the pixels{shown}")
        return found


def training_split(splits: Mapping[str, int]) -> str:
    """The split to train on: `train`, or where there is none the one with the most images."""
    return "train" if "train" in splits else max(splits, key=lambda name: splits[name])


def fingerprint(dataset: Dataset, split: str) -> Fingerprint:
    """Takes what preparing the set has counted, and looks at up to 64 images of `split`, always the same, for the rest.

    Raises:
      ConfigError: a split that the set does not have.
      DataError: a set without labels.
    """
    source, classes = dataset.split(split), dataset.info.num_classes
    pixels, _ = dataset.class_counts(split)
    sizes, area, border, void = [], np.zeros(classes), np.zeros(classes), 0
    for index in epoch_order(len(source), seed=0, epoch=0)[:LOOKED_AT]:
        if sum(height * width for height, width in sizes) >= PIXELS:
            break
        sample = source[int(index)]
        if LABEL not in sample:
            raise DataError(
                f"data set {dataset.info.name!r}: it has instances and no labels, and this config chooses by labels;"
                " take one that is made for instances, such as configs/quickstart_instance.py."
            )
        label = sample[LABEL]
        sizes.append(label.shape)
        area += np.bincount(label.ravel(), minlength=IGNORE + 1)[:classes]
        border += _border(label, classes)
        void += int((label == IGNORE).sum())
    heights, widths = (int(np.median(sides)) for sides in zip(*sizes))
    everyone = [one.largest for one in dataset.splits.values()]
    return Fingerprint(
        info=dataset.info,
        splits={name: len(one) for name, one in dataset.splits.items()},
        split=split,
        images=len(source),
        largest=(max(height for height, _ in everyone), max(width for _, width in everyone)),
        median=(heights, widths),
        shares=tuple((pixels / max(1, pixels.sum())).tolist()),
        void=void / sum(height * width for height, width in sizes),
        widths=tuple(2 * a / b if b else None for a, b in zip(area.tolist(), border.tolist())),
        looked_at=len(sizes),
    )


def _border(label: np.ndarray, classes: int) -> np.ndarray:
    """float64 [K]: length of each class's border with other classes in pixels; void is on neither side of one.

    Sides of pixels overstate a slanted line; pi / 4 is right on average over directions.
    """
    length = np.zeros(IGNORE + 1)
    for one, other in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
        apart = (one != other) & (one != IGNORE) & (other != IGNORE)
        for side in (one, other):
            length += np.bincount(side[apart], minlength=IGNORE + 1)
    return length[:classes] * math.pi / 4
