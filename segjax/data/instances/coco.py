"""COCO's annotations of one image, as masks: polygons and run lengths drawn as pycocotools draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core import rle
from segjax.data.annotations import shapes
from segjax.data.annotations.coco import regions
from segjax.data.annotations.tally import Dropped, Tally
from segjax.data.id_layers import id_layers
from segjax.data.instances.objects import Annotated, make_instances
from segjax.data.problem import Problem

EMPTY = "shape that covers no pixel"


@dataclasses.dataclass(frozen=True)
class CocoReader:
    """The annotations of one image in a file of COCO's instances; a `Reader`.

    Attributes:
      file: the JSON file.
      image: how messages call the image.
      annotations: its annotations, as in the file.
      classes: category id -> class.
      size: (height, width) that the file says; None where it does not.
    """

    file: Path
    image: str
    annotations: Sequence[Mapping[str, Any]]
    classes: Mapping[Any, int]
    size: tuple[int, int] | None

    def read(self, size: tuple[int, int], label: np.ndarray | None = None) -> Annotated:
        """See `Reader.read`. An instance whose shape covers no pixel stays: it counts in scores, as in pycocotools."""
        if self.size is not None and self.size != size:
            return Annotated(None, None, (wrong_size(self.file, self.image, self.size, size),))
        problems, notes = [], []
        masks: list[np.ndarray] = []
        classes, crowd = [], []
        areas: dict[int, float] = {}
        boxes: dict[int, tuple[float, float, float, float]] = {}
        for annotation in self.annotations:
            tally, name = Tally(), f"{self.file}: annotation {rle.brief(annotation.get('id'))} ({self.image})"
            try:
                ident = class_of(annotation, self.classes)
                box, area = stated_box(annotation), stated_area(annotation)
                mask = _mask(annotation.get("segmentation"), size, tally)
            except Dropped as drop:
                tally.drop(drop.kind, drop.example)
                mask = None
            for kind, (_, example) in tally.dropped.items():
                (notes if kind == EMPTY else problems).append(
                    Problem(kind, f"{name}: {kind}: {example.removeprefix(': ')}")
                )
            if mask is None:
                continue
            areas |= {} if area is None else {len(masks): area}
            boxes |= {} if box is None else {len(masks): box}
            masks.append(mask)
            classes.append(ident)
            crowd.append(bool(annotation.get("iscrowd")))
        instances = make_instances(id_layers(masks, size), classes, crowd, areas, boxes)
        return Annotated(instances, None, tuple(problems), tuple(notes))


def _mask(segmentation: object, size: tuple[int, int], tally: Tally) -> np.ndarray:
    """bool [H, W]; what parts of it lack is tallied. Raises Dropped where none of it can be drawn."""
    mask = np.zeros(size, bool)
    try:
        parts = regions(segmentation, size, "", tally)
    except Dropped as drop:
        if drop.kind != EMPTY:
            raise
        tally.drop(drop.kind, drop.example)
        return mask
    if not parts and set(tally.dropped) - {EMPTY}:
        raise Dropped(*_first(tally))
    if parts:
        top, left, region = shapes.union(parts, size)
        mask[top : top + region.shape[0], left : left + region.shape[1]] = region
    return mask


def _first(tally: Tally) -> tuple[str, str]:
    """A fault that was tallied, taken out of the tally."""
    kind = next(kind for kind in tally.dropped if kind != EMPTY)
    return kind, tally.dropped.pop(kind)[1].removeprefix(": ")


def class_of(annotation: Mapping[str, Any], classes: Mapping[Any, int]) -> int:
    """The class of an annotation or a segment. Raises Dropped."""
    category = annotation.get("category_id")
    try:
        return classes[category]
    except (KeyError, TypeError) as error:
        raise Dropped("unknown category", f"category_id {rle.brief(category)} is none of the file's") from error


def stated_box(annotation: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 of a `bbox`; None where there is none. Raises Dropped."""
    box = annotation.get("bbox")
    if box is None:
        return None
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise Dropped("box that is not four numbers", f"bbox {rle.brief(box)}")
    left, top, width, height = box
    if width <= 0 or height <= 0:
        raise Dropped(
            "empty or inverted box", f"bbox {rle.brief(box)} is x, y, width, height; the last two are above 0"
        )
    return left, top, left + width, top + height


def stated_area(annotation: Mapping[str, Any]) -> float | None:
    """The `area`; None where there is none. Raises Dropped."""
    area = annotation.get("area")
    if area is not None and not (_is_number(area) and area >= 0):
        raise Dropped("area that is no number from 0 on", f"area {rle.brief(area)}")
    return area


def wrong_size(file: Path, image: str, stated: tuple[int, int], size: tuple[int, int]) -> Problem:
    """An image that has another size than its annotations; both sizes are (height, width)."""
    swapped = stated == size[::-1]
    kind = "width and height swapped" if swapped else "image of another size than its annotations"
    how = "; swap them in the file, or turn the image if its EXIF orientation lays it on its side" if swapped else ""
    text = f"the file says {stated[0]}x{stated[1]}, the image is {size[0]}x{size[1]} (height x width)"
    return Problem(kind, f"{file}: {image}: {kind}: {text}{how}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
