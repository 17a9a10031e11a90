"""Pictures of clouds: two orthographic views side by side, points as small squares in the colours of their parts."""

from __future__ import annotations

import numpy as np

SIDE = 240  # pixels of a view
_MARGIN, _DOT = 8, 3  # pixels; a dot's side
_GAP = 4
_VIEWS = ((0, 1, 2), (2, 1, 0))  # coordinates to the right, up and towards the eye: from the front, from the side


def draw_cloud(points: np.ndarray, colours: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 [side, 2 * side + 4, 3]: seen along the third coordinate and along the first, the second upwards.

    Both views have the scale at which the whole cloud fits; near points hide those behind.

    Args:
      points: [N, C], coordinates first.
      colours: uint8 [N, 3].
      side: pixels of a view, at least 32.
    """
    places = np.asarray(points, np.float64)[:, :3]
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (side - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    places = (places - (low + high) / 2) * scale
    views = [_view(places[:, axes], np.asarray(colours, np.uint8), side) for axes in _VIEWS]
    gap = np.full((side, _GAP, 3), 255, np.uint8)
    return np.concatenate([views[0], gap, views[1]], axis=1)


def _view(places: np.ndarray, colours: np.ndarray, side: int) -> np.ndarray:
    """`places` [N, 3]: right, up, towards the eye, in pixels from the middle."""
    picture = np.full((side, side, 3), 255, np.uint8)
    order = np.argsort(places[:, 2], kind="stable")  # of repeated indices the last, the nearest, stays
    column, row = np.rint(side / 2 + places[order, 0]), np.rint(side / 2 - places[order, 1])
    reach = _DOT // 2
    step = np.arange(-reach, reach + 1)
    rows = np.clip(row[:, None, None] + step[:, None], 0, side - 1).astype(int)
    columns = np.clip(column[:, None, None] + step, 0, side - 1).astype(int)
    picture[rows, columns] = colours[order, None, None]
    return picture
