"""COCO's run-length encoding of masks, and its polygons.

The rules are those of common/maskApi.c of cocodataset/cocoapi; the tests compare with it count by count and pixel by
pixel. They are written out here because every installation reads such files, and because COCO's C code trusts its
input: counts and coordinates of a damaged file make it allocate or write what they say.

Shape legend: H height, W width, N points.

Counts are the lengths of runs of pixels down the columns, of zeros and ones in turn, zeros first. Only the first may be
zero in what is written here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.core.errors import DataError

Size = tuple[int, int]  # height, width

SUBPIXELS = 5  # an outline is walked on a grid this much finer

_FAR = 100  # coordinates beyond this many image sizes are a fault of the file
_CHUNK = 1 << 20  # outline points held at once
_FIRST, _LAST = 48, 48 + 63  # characters of compressed counts: "0" and on, 6 bits each


def encode(mask: np.ndarray) -> list[int]:
    """Counts of a mask, bool or 0 and 1, [H, W]."""
    flat = np.asarray(mask, bool).ravel(order="F")
    return _runs(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size, bool(flat.size and flat[0]))


def decode(counts: str | bytes | Sequence[int], size: Size) -> np.ndarray:
    """bool [H, W] of counts, or of their compressed string.

    Raises:
      DataError: counts that are damaged, or do not fill the size.
    """
    height, width = size
    runs = checked(counts, size)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def checked(counts: str | bytes | Sequence[int], size: Size) -> list[int]:
    """The counts as whole numbers that fill the size; raises DataError as `decode` does."""
    if isinstance(counts, bytes):
        counts = counts.decode("latin-1")
    runs = decompress(counts) if isinstance(counts, str) else list(counts)
    if not all(isinstance(run, int | np.integer) and not isinstance(run, bool) and run >= 0 for run in runs):
        raise DataError(f"RLE: counts {brief(counts)} are not all whole numbers from 0 on.")
    if sum(runs) != size[0] * size[1]:
        raise DataError(f"RLE: the runs have {sum(runs)} pixels, the size {size[0]}x{size[1]} (height x width).")
    return runs


def compress(counts: Sequence[int]) -> str:
    """COCO's string of counts: see `decompress`."""
    text = []
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            code = value & 0x1F
            value >>= 5
            more = value != (-1 if code & 0x10 else 0)
            text.append(chr(_FIRST + (code | 0x20 if more else code)))
    return "".join(text)


def decompress(text: str) -> list[int]:
    """The counts of COCO's string: 5 bits a character, low ones first; a sixth bit says that more follow, and the
    highest of the five is the sign. From the fourth count on the difference to the count two before is stored.

    Raises:
      DataError: characters outside the code, or a string that ends in the middle of a count.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code <= _LAST - _FIRST or shift > 60:
            raise DataError(f"RLE: counts {brief(text)} are damaged.")
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise DataError(f"RLE: counts {brief(text)} end in the middle of a number.")
    return counts


def area(counts: Sequence[int]) -> int:
    """Pixels of the mask."""
    return sum(counts[1::2])


def to_box(counts: Sequence[int], size: Size) -> tuple[int, int, int, int]:
    """x, y, width, height of the smallest box around the mask; zeros where it is empty."""
    height = size[0]
    ends = np.cumsum(np.asarray(counts, np.int64))
    starts, ends = (ends[: len(ends) // 2 * 2].reshape(-1, 2)).T
    starts, ends = starts[ends > starts], ends[ends > starts] - 1
    if not len(starts):
        return 0, 0, 0, 0
    left, right = int(starts[0] // height), int(ends[-1] // height)
    tall = bool((starts // height != ends // height).any())  # a run over a column's end has its first and last row
    top = 0 if tall else int((starts % height).min())
    bottom = height - 1 if tall else int((ends % height).max())
    return left, top, right - left + 1, bottom - top + 1


def merge(parts: Sequence[Sequence[int]], size: Size, *, intersect: bool = False) -> list[int]:
    """Counts of the union, or the intersection, of masks of one size; of no masks, the empty one.

    Raises:
      DataError: counts that do not fill the size.
    """
    if not parts:
        return encode(np.zeros(size, bool))
    combine = np.logical_and if intersect else np.logical_or
    return encode(combine.reduce([decode(counts, size) for counts in parts]))


def polygon(points: np.ndarray, size: Size) -> list[int]:
    """Counts of a polygon, float [N, 2] of x, y; see `outline`. The parts of one mask are then merged."""
    positions, times = np.unique(outline(points, size), return_counts=True)
    changes = positions[times % 2 == 1]
    return _runs(changes[(changes > 0) & (changes < size[0] * size[1])], size[0] * size[1], 0 in changes)


def outline(points: np.ndarray, size: Size) -> np.ndarray:
    """Where a polygon begins and ends down the columns of an image.

    Corners are rounded to fifths of a pixel and the outline is walked on that grid. Where it passes the middle of a
    column, the column changes between outside and inside (even-odd). Source: `rleFrPoly`.

    Args:
      points: float [N, 2] of x, y; the last is joined to the first.
      size: height and width of the image.

    Returns:
      int64 [M], unsorted: positions 0 .. H W, counted down the columns, from which on it is inside rather than outside
      or the reverse. Twice the same position is no change.

    Raises:
      DataError: fewer than 3 points, or coordinates so far from the image that only a damaged file has them.
    """
    height, width = size
    points = np.asarray(points, np.float64)
    if len(points) < 3:
        raise DataError(f"polygon: {len(points)} points are none; remove the shape.")
    if not np.isfinite(points).all() or np.abs(points).max() > _FAR * sum(size):
        raise DataError(f"polygon: coordinates {brief(points.tolist())} are far from an image of {height}x{width}.")
    corners = np.trunc(SUBPIXELS * points + 0.5).astype(np.int64)
    edges = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    parts = np.cumsum(_lengths(edges)) // _CHUNK
    return np.concatenate([_crossings(edges[parts == part], height, width) for part in np.unique(parts)])


def brief(value: object) -> str:
    """A value as a message shows it, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _runs(changes: np.ndarray, pixels: int, starts_inside: bool) -> list[int]:
    """Counts between sorted positions of change."""
    bounds = np.concatenate([[0] * (1 + starts_inside), changes, [pixels]])
    return np.diff(bounds).astype(np.int64).tolist()


def _lengths(edges: np.ndarray) -> np.ndarray:
    """Steps of each edge x0, y0, x1, y1 [N, 4] along its longer direction, ends included."""
    return np.abs(edges[:, 2:] - edges[:, :2]).max(axis=1) + 1


def _crossings(edges: np.ndarray, height: int, width: int) -> np.ndarray:
    """int64 [M]: positions at which the edges [N, 4] pass the middle of a column."""
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
    middle = SUBPIXELS // 2
    passed = (edge[1:] == edge[:-1]) & (x[1:] != x[:-1]) & (lower % SUBPIXELS == middle)
    columns = lower[passed] // SUBPIXELS
    rows = -((middle - np.minimum(y[1:], y[:-1])[passed]) // SUBPIXELS)  # rounded up
    within = (columns >= 0) & (columns < width)
    return columns[within] * height + np.clip(rows[within], 0, height)
