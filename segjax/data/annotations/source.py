"""What a reader of one format hands to the writer: pictures that know how to draw their own label map."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from segjax.data.annotations.class_list import ClassList, Declared
from segjax.data.annotations.tally import Tally

Size = tuple[int, int]
"""(height, width)."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image and its annotations.

    Attributes:
      name: its path as the annotations have it, with `/` between the parts; file names are made of it.
      file: the image file; None when the annotations themselves hold it.
      draw: (size, classes, tally) -> class ids, uint8 [H, W], 255 = void. `size` is that of `size` below, or where that
        is None the image's, as it is displayed. Raises Dropped.
      size: the size that the annotations are made for; None when they do not say, or are masks.
      data: reads the bytes of an image that the annotations hold.
      upright: whether the tool is known to annotate images as they are displayed, turned by their EXIF orientation.
      split: the split that the source puts it into, if it has any.
    """

    name: str
    file: Path | None
    draw: Callable[[Size, ClassList, Tally], np.ndarray]
    size: Size | None = None
    data: Callable[[], bytes] | None = None
    upright: bool = False
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """A read source: its pictures in file order, and the class list that it declares."""

    pictures: Sequence[Picture]
    declared: Declared
