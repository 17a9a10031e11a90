"""Shapes to pixels, each by the rule of the tool whose shapes they are.

`polygon`, `box` and `run_lengths` are the rule of COCO's mask code, which CVAT's own mask export uses too. The rule is
written out here, and not imported, because two formats need it in every installation, it is short, and COCO's C code
trusts its input: counts and coordinates of a damaged file make it allocate or write what they say. The tests hold it to
COCO's code pixel for pixel. `drawn` is Pillow, as in labelme; `ellipse` is OpenCV, as in CVAT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw

from segjax.data.annotations.tally import Dropped, Tally

_SUBPIXELS = 5  # COCO walks the outline on a grid this much finer
_CHUNK = 1 << 20  # outline points held at once
_FAR = 100  # coordinates beyond this many image sizes are a fault of the file
_COMPRESSED = range(48, 48 + 64)  # the characters of compressed run lengths


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
    """COCO's polygon: float [N, 2] of x, y -> the pixels it covers.

    The corners are rounded to fifths of a pixel, the outline is walked there, and where it passes the middle of a
    column, the column changes between outside and inside (even-odd). Source: rleFrPoly of cocodataset/cocoapi,
    common/maskApi.c.

    Raises:
      Dropped: fewer than 3 points, or no pixel.
    """
    if len(points) < 3:
        raise Dropped("polygon with fewer than 3 points", f"{len(points)} points")
    check_reach(points, size)
    height, width = size
    corners = np.trunc(_SUBPIXELS * points + 0.5).astype(np.int64)
    edges = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    parts = np.cumsum(_lengths(edges)) // _CHUNK
    columns, rows = np.concatenate(
        [_crossings(edges[parts == part], height, width) for part in np.unique(parts)], axis=1
    )
    if not len(columns):
        raise Dropped(_empty_kind(points, size), _spot(points))
    left, right = int(columns.min()), int(columns.max()) + 1
    # Positions count down the columns. One at a column's end is the next one's start, and there comes in pairs.
    changes = np.bincount((columns - left) * height + rows, minlength=(right - left) * height)
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
        raise Dropped("RLE without a size", _brief(size))
    height, width = size
    runs = decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(_whole(run) and run >= 0 for run in runs):
        raise Dropped("RLE that is damaged", f"counts {_brief(counts)}")
    if sum(runs) != height * width:
        raise Dropped("RLE of another size", f"runs of {sum(runs)} pixels, size {height}x{width} (height x width)")
    flat = np.repeat(np.arange(len(runs)) & 1, runs).astype(bool)
    return flat.reshape(height, width) if by_rows else flat.reshape(width, height).T


def decompress(text: str) -> list[int]:
    """The counts of COCO's compressed string: 5 bits a character from 48 on, the sixth says that more follow; from the
    fourth count on, the difference to the one before the last is stored. Source: rleFrString of common/maskApi.c."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character)
        if code not in _COMPRESSED or shift > 60:
            raise Dropped("RLE that is damaged", f"counts {_brief(text)}")
        value |= (code - 48 & 0x1F) << shift
        shift += 5
        if not code - 48 & 0x20:
            if code - 48 & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise Dropped("RLE that is damaged", f"counts {_brief(text)}")
    return counts


def points_array(values: object) -> np.ndarray:
    """float64 [N, 2] of pairs; Dropped when they are something else, or not finite."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(())
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise Dropped("coordinates that are not pairs of numbers", _brief(values))
    if not np.isfinite(array).all():
        raise Dropped("coordinates that are not finite", _brief(values))
    return array


def check_reach(points: np.ndarray, size: tuple[int, int]) -> None:
    """Dropped when a coordinate lies so far away that only a damaged file has it."""
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR * sum(size):
        raise Dropped("shape outside the image", _spot(points))


def _lengths(edges: np.ndarray) -> np.ndarray:
    """Steps of each edge x0, y0, x1, y1 [N, 4] along its longer direction, ends included."""
    return np.abs(edges[:, 2:] - edges[:, :2]).max(axis=1) + 1


def _crossings(edges: np.ndarray, height: int, width: int) -> np.ndarray:
    """[2, M]: columns whose middle the edges pass, and the rows, 0..height, at which they do."""
    count = _lengths(edges)
    delta = edges[:, 2:] - edges[:, :2]
    flat = np.abs(delta[:, 0]) >= np.abs(delta[:, 1])  # one point for each x, or else for each y
    back = np.where(flat, delta[:, 0], delta[:, 1]) < 0
    start, end = (
        np.where(back[:, None], edges[:, 2:], edges[:, :2]),
        np.where(back[:, None], edges[:, :2], edges[:, 2:]),
    )
    along = np.where(flat, start[:, 0], start[:, 1])
    across = np.where(flat, start[:, 1], start[:, 0])
    rise = np.where(flat, end[:, 1] - start[:, 1], end[:, 0] - start[:, 0])
    slope = rise / np.maximum(count - 1, 1)
    edge = np.repeat(np.arange(len(edges)), count)
    step = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    major = along[edge] + step
    minor = np.trunc(across[edge] + slope[edge] * step + 0.5).astype(np.int64)
    x, y = np.where(flat[edge], major, minor), np.where(flat[edge], minor, major)
    lower = np.minimum(x[1:], x[:-1])
    middle = _SUBPIXELS // 2
    passed = (edge[1:] == edge[:-1]) & (x[1:] != x[:-1]) & (lower % _SUBPIXELS == middle)
    columns = lower[passed] // _SUBPIXELS
    rows = -((middle - np.minimum(y[1:], y[:-1])[passed]) // _SUBPIXELS)  # rounded up
    within = (columns >= 0) & (columns < width)
    return np.stack([columns[within], np.clip(rows[within], 0, height)])


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


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
