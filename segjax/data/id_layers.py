"""Instances of an image as a few maps of numbers, which hold overlapping masks exactly.

N masks of a picture need N bits a pixel; instances seldom overlap, so one to four maps of a byte hold all of them.

Shape legend: N instances, H height, W width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def id_layers(masks: np.ndarray | Sequence[np.ndarray], size: tuple[int, int] | None = None) -> np.ndarray:
    """Numbers of instances, spread over layers so that no two of one layer overlap.

    Instances that overlap are neighbours of a graph, whose nodes are coloured greedily: the one with the most
    neighbours first (of equals the earlier one), each in the first layer that holds none of its neighbours. An instance
    is in one layer, whole.

    Args:
      masks: bool [N, H, W], or N arrays [H, W]; crowds among them are instances like others.
      size: height and width; needed for a sequence of no masks.

    Returns:
      uint8 [H, W, L], uint16 for more than 255 masks, L >= 1: k in some layer where `masks[k - 1]` is true, 0 in the
      others. Instances without a pixel are in no layer.
    """
    if size is None:
        size = masks.shape[1:] if isinstance(masks, np.ndarray) else masks[0].shape
    boxes = [_box(np.asarray(mask, bool)) for mask in masks]
    neighbours = _overlaps(masks, boxes)
    layer_of: dict[int, int] = {}
    for k in sorted(range(len(boxes)), key=lambda k: -len(neighbours[k])):
        if boxes[k] is not None:
            taken = {layer_of[other] for other in neighbours[k] if other in layer_of}
            layer_of[k] = min(set(range(len(taken) + 1)) - taken)
    layers = max(layer_of.values(), default=0) + 1
    numbers = np.zeros((*size, layers), np.uint8 if len(boxes) <= 255 else np.uint16)
    for k, layer in layer_of.items():
        numbers[..., layer][boxes[k]][np.asarray(masks[k], bool)[boxes[k]]] = k + 1
    return numbers


def _box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of the mask's pixels; None where it has none."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _overlaps(masks: Sequence[np.ndarray], boxes: list[tuple[slice, slice] | None]) -> list[set[int]]:
    """For each mask those that share a pixel with it."""
    neighbours: list[set[int]] = [set() for _ in boxes]
    for a, mine in enumerate(boxes):
        for b, other in enumerate(boxes[:a]):
            if mine is None or other is None:
                continue
            both = tuple(slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(mine, other))
            if all(s.start < s.stop for s in both) and (masks[a][both] & masks[b][both]).any():
                neighbours[a].add(b)
                neighbours[b].add(a)
    return neighbours
