"""CVAT's shapes to a label map, as CVAT's own export of segmentation masks draws them.

Polygons and boxes follow COCO's rule, ellipses OpenCV's, masks are run lengths of rows. Shapes are painted in the
order of their `z_order`, and in that of the file within one. Points, polylines, cuboids and skeletons cover no area
and are dropped, as CVAT drops them. Source: cvat/apps/dataset_manager/formats/{mask,transformations}.py of
cvat-ai/cvat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from segjax.data.annotations import shapes
from segjax.data.annotations.class_list import BACKGROUND, ClassList, tidy
from segjax.data.annotations.source import Size
from segjax.data.annotations.tally import Dropped, Tally

NO_AREAS = ("points", "polyline", "cuboid", "skeleton")
_AREAS = ("box", "polygon", "ellipse", "mask")


class Shape(NamedTuple):
    """An element of the file, the label of it or of its track, and how a message names it."""

    element: Element
    label: str
    name: str


def draw_shapes(listed: Sequence[Shape], image: str, size: Size, classes: ClassList, tally: Tally) -> np.ndarray:
    """The label map of some shapes; what cannot be drawn goes into the tally."""
    layers: list[tuple[float, shapes.Layer]] = []
    for element, label, name in listed:
        try:
            if element.tag not in _AREAS:
                raise Dropped("shape of a type that covers no area or is not read", element.tag)
            ident = classes.ident(tidy(label))
            if ident is None:
                raise Dropped("shape of a label that is not in the class list", repr(label)[:60])
            region = _region(element, size)
            layers.append((number(element, "z_order", 0.0), shapes.Layer(region, ident, name)))
        except Dropped as drop:
            tally.drop(drop.kind, f"{name}: {drop.example}")
    if not listed:
        tally.note("image without shapes, which is all background", image)
    layers.sort(key=lambda pair: pair[0])
    return shapes.paint(size, classes.names.index(BACKGROUND), [layer for _, layer in layers], tally)


def number(element: Element, key: str, default: float | None = None) -> float:
    """A finite number of an element's attributes. Raises Dropped."""
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = float("nan")
    if not np.isfinite(value):
        raise Dropped("coordinates that are not finite", f"{key}={text!r}"[:60])
    return value


def points(element: Element) -> np.ndarray:
    """float64 [N, 2] of an element's `points`, `x,y;x,y`. Raises Dropped."""
    text = element.get("points", "")
    try:
        return shapes.points_array([[float(v) for v in pair.split(",")] for pair in text.split(";") if pair.strip()])
    except ValueError as error:
        raise Dropped("coordinates that are not pairs of numbers", repr(text)[:60]) from error


def _region(element: Element, size: Size) -> shapes.Region:
    if element.tag == "polygon":
        return shapes.polygon(points(element), size)
    if element.tag == "box":
        corners = [number(element, key) for key in ("xtl", "ytl", "xbr", "ybr")]
        return shapes.box(*corners, size, number(element, "rotation", 0.0))
    if element.tag == "ellipse":
        values = [number(element, key) for key in ("cx", "cy", "rx", "ry")]
        return shapes.ellipse(*values, number(element, "rotation", 0.0), size)
    left, top, width, height = (int(number(element, key)) for key in ("left", "top", "width", "height"))
    try:
        counts = [int(count) for count in element.get("rle", "").split(",") if count.strip()]
    except ValueError as error:
        raise Dropped("RLE that is damaged", repr(element.get("rle"))[:60]) from error
    return shapes.pasted(shapes.run_lengths(counts, (height, width), by_rows=True), top, left, size)
