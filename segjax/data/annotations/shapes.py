"""Shapes to pixels, each by the rule of the tool whose shapes they are.

`polygon`, `box` and `run_lengths` are the rule of COCO's mask code, see `segjax.core.rle`; CVAT's own mask export uses
it too. `drawn` is Pillow, as in labelme; `ellipse` is OpenCV, as in CVAT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from segjax.core import rle
from segjax.core.errors import DataError
from segjax.data.annotations.tally import Dropped, Tally

_FAR = 100  # coordinates beyond this many image sizes are a fault of the file


class Region(NamedTuple):
    """A mask within an image: bool [h, w], whose first pixel is the image's pixel (top, left)."""

    top: int
    left: int
    mask: np.ndarray


class Layer(NamedTuple):
    """The region of one annotation, the class id it gets, and how a message names it."""

    region: Region
    ident: int
    name: str


def paint(size: tuple[int, int], fill: int, layers: Sequence[Layer], tally: Tally) -> np.ndarray:
    """uint8 [H, W]: `fill`, and the layers on it, later ones over earlier ones. One with nothing left is noted."""
    owner = np.zeros(size, np.int32)
    for number, layer in enumerate(layers, 1):
        top, left, mask = layer.region
        owner[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = number
    remaining = np.bincount(owner.ravel(), minlength=len(layers) + 1)
    for number, layer in enumerate(layers, 1):
        if not remaining[number]:
            tally.note("shape wholly under later shapes", layer.name)
    return np.array([fill, *(layer.ident for layer in layers)], np.uint8)[owner]


def union(regions: Sequence[Region], size: tuple[int, int]) -> Region:
    """The parts of one annotation as one region."""
    if len(regions) == 1:
        return regions[0]
    whole = np.zeros(size, bool)
    for top, left, mask in regions:
        whole[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    return Region(0, 0, whole)


def polygon(points: np.ndarray, size: tuple[int, int]) -> Region:
    """COCO's polygon: float [N, 2] of x, y -> the pixels it covers; the rule is that of `rle.outline`.

    Raises:
      Dropped: fewer than 3 points, or no pixel.
    """
    if len(points) < 3:
        raise Dropped("polygon with fewer than 3 points", f"{len(points)} points")
    check_reach(points, size)
    height, width = size
    positions = rle.outline(points, size)
    if not len(positions):
        raise Dropped(_empty_kind(points, size), _spot(points))
    left, right = int(positions.min()) // height, min(int(positions.max()) // height + 1, width)
    # One at a column's end is the next one's start, and there comes in pairs.
    changes = np.bincount(positions - left * height, minlength=(right - left) * height)
    inside = np.logical_xor.accumulate((changes[: (right - left) * height] & 1).astype(bool))
    return _with_pixels(Region(0, left, inside.reshape(right - left, height).T), points, size)


def box(left: float, top: float, right: float, bottom: float, size: tuple[int, int], degrees: float = 0.0) -> Region:
    """CVAT's box as a polygon, turned clockwise about its middle; Dropped when it is empty or inverted."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    if right <= left or bottom <= top:
        raise Dropped("empty or inverted box", f"{left:g} {top:g} {right:g} {bottom:g}")
    if degrees:
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        middle = np.array([left + (right - left) / 2, top + (bottom - top) / 2])
        corners = (corners - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle
    return polygon(corners, size)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float, size: tuple[int, int]) -> Region:
    """CVAT's ellipse: OpenCV's, with middle and radii rounded to whole pixels."""
    reach = np.array([(x - radius_x, y - radius_y), (x + radius_x, y + radius_y)])
    check_reach(reach, size)
    if radius_x < 0 or radius_y < 0:
        raise Dropped("empty or inverted box", f"ellipse of radii {radius_x:g} {radius_y:g}")
    mask = np.zeros(size, np.uint8)
    cv2.ellipse(mask, (round(x), round(y)), (round(radius_x), round(radius_y)), degrees, 0, 360, 1, thickness=-1)
    return _with_pixels(Region(0, 0, mask.astype(bool)), reach, size)


def drawn(
    points: np.ndarray, size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw, list[tuple[float, float]]], None]
) -> Region:
    """What `draw` draws with Pillow in colour 1, given the points as pairs; Dropped when that is no pixel."""
    check_reach(points, size)
    picture = Image.new("L", size[::-1])
    draw(ImageDraw.Draw(picture), [(x, y) for x, y in points.tolist()])
    return _with_pixels(Region(0, 0, np.asarray(picture) > 0), points, size)


def pasted(mask: np.ndarray, top: int, left: int, size: tuple[int, int]) -> Region:
    """A mask bool [h, w] at a place of the image, cut at its borders; Dropped when no pixel of it is inside."""
    first, start = max(0, top), max(0, left)
    last, stop = min(size[0], top + mask.shape[0]), min(size[1], left + mask.shape[1])
    corners = np.array([(left, top), (left + mask.shape[1], top + mask.shape[0])], np.float64)
    if first >= last or start >= stop:
        raise Dropped("shape outside the image", _spot(corners))
    return _with_pixels(Region(first, start, mask[first - top : last - top, start - left : stop - left]), corners, size)


def run_lengths(counts: object, size: object, *, by_rows: bool = False) -> np.ndarray:
    """bool [h, w] of run lengths that begin with zeros.

    Args:
      counts: whole numbers, or COCO's compressed string of them.
      size: [h, w] that the runs fill.
      by_rows: the runs follow the rows (CVAT), not the columns (COCO).

    Raises:
      Dropped: `counts` or `size` is something else, or the runs do not fill the size.
    """
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(_whole(value) and value > 0 for value in size):
        raise Dropped("RLE without a size", rle.brief(size))
    height, width = size
    try:
        runs = rle.decompress(counts) if isinstance(counts, str) else counts
    except DataError as error:
        raise Dropped("RLE that is damaged", str(error)) from error
    if not isinstance(runs, list) or not all(_whole(run) and run >= 0 for run in runs):
        raise Dropped("RLE that is damaged", f"counts {rle.brief(counts)}")
    if sum(runs) != height * width:
        raise Dropped("RLE of another size", f"runs of {sum(runs)} pixels, size {height}x{width} (height x width)")
    return rle.decode(runs, (width, height)).T if by_rows else rle.decode(runs, (height, width))


def points_array(values: object) -> np.ndarray:
    """float64 [N, 2] of pairs; Dropped when they are something else, or not finite."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(())
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise Dropped("coordinates that are not pairs of numbers", rle.brief(values))
    if not np.isfinite(array).all():
        raise Dropped("coordinates that are not finite", rle.brief(values))
    return array


def check_reach(points: np.ndarray, size: tuple[int, int]) -> None:
    """Dropped when a coordinate lies so far away that only a damaged file has it."""
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR * sum(size):
        raise Dropped("shape outside the image", _spot(points))


def _with_pixels(region: Region, points: np.ndarray, size: tuple[int, int]) -> Region:
    if not region.mask.any():
        raise Dropped(_empty_kind(points, size), _spot(points))
    return region


def _empty_kind(points: np.ndarray, size: tuple[int, int]) -> str:
    low, high = points.min(axis=0), points.max(axis=0)
    outside = high[0] <= 0 or high[1] <= 0 or low[0] >= size[1] or low[1] >= size[0]
    return "shape outside the image" if outside else "shape that covers no pixel"


def _spot(points: np.ndarray) -> str:
    low, high = points.min(axis=0), points.max(axis=0)
    return f"x {low[0]:g} to {high[0]:g}, y {low[1]:g} to {high[1]:g}"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
