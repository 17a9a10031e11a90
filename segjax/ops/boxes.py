"""Boxes: areas, overlaps, clipping, the box coder, and boxes of instances from their id map.

A box is x0, y0, x1, y1 in pixels, continuous: pixel j spans j..j+1, so a box is x1 - x0 wide and no 1 is added
(detectron2, torchvision, DETR and COCO; older detectors add 1).

N, M boxes; H, W pixels; L layers of ids. `...` is any number of leading axes, which broadcast.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.ops.precision import widen

# Faster R-CNN's limit on dw and dh: no anchor grows more than 1000 / 16 times.
MAX_LOG_RATIO = math.log(1000.0 / 16)


def area(boxes: jax.Array) -> jax.Array:
    """[..., 4] -> [...]: the area in pixels, 0 for a box whose corners are swapped."""
    width, height = _sides(boxes)
    return jnp.maximum(width, 0) * jnp.maximum(height, 0)


def intersection(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., 4] and [..., 4] -> [...]: the area that two boxes share."""
    return area(jnp.concatenate([jnp.maximum(a[..., :2], b[..., :2]), jnp.minimum(a[..., 2:], b[..., 2:])], -1))


def iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., 4] and [..., 4] -> [...]: intersection over union, 0 where both boxes are empty."""
    shared = intersection(a, b)
    return _ratio(shared, area(a) + area(b) - shared)


def intersection_over_area(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., 4] and [..., 4] -> [...]: the share of `a` that `b` covers, 0 where `a` is empty.

    COCO compares a detection `a` with a crowd `b` so.
    """
    return _ratio(intersection(a, b), area(a))


def generalised_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """[..., 4] and [..., 4] -> [...] in (-1, 1]: IoU minus the empty share of the box around both.

    Rezatofighi et al., Generalized Intersection over Union, CVPR 2019, algorithm 1. Two empty boxes at one place have
    the value 0 and a gradient of 0.
    """
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    hull = area(jnp.concatenate([jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:])], -1))
    return _ratio(shared, union) - _ratio(hull - union, hull)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """[N, 4] and [M, 4] -> [N, M]: `iou` of every pair."""
    return iou(a[:, None], b[None])


def pairwise_intersection_over_area(a: jax.Array, b: jax.Array) -> jax.Array:
    """[N, 4] and [M, 4] -> [N, M]: the share of each of `a` that each of `b` covers."""
    return intersection_over_area(a[:, None], b[None])


def pairwise_generalised_iou(a: jax.Array, b: jax.Array) -> jax.Array:
    """[N, 4] and [M, 4] -> [N, M]: `generalised_iou` of every pair."""
    return generalised_iou(a[:, None], b[None])


def clip(boxes: jax.Array, size: tuple[int | jax.Array, int | jax.Array] | jax.Array) -> jax.Array:
    """[..., 4] -> [..., 4] within 0..columns and 0..rows; `size` is (rows, columns), static or traced."""
    rows, columns = size[0], size[1]
    return jnp.clip(boxes, 0, jnp.stack([columns, rows, columns, rows]).astype(boxes.dtype))


def to_centre(boxes: jax.Array) -> jax.Array:
    """[..., 4] x0, y0, x1, y1 -> x, y of the centre, width, height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], -1)


def from_centre(boxes: jax.Array) -> jax.Array:
    """[..., 4] x, y of the centre, width, height -> x0, y0, x1, y1."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return jnp.concatenate([centre - half, centre + half], -1)


def encode(boxes: jax.Array, anchors: jax.Array, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> jax.Array:
    """The deltas that `decode` turns back into `boxes`: R-CNN, Girshick et al., CVPR 2014, appendix C.

    An empty side, as padding has, counts as one pixel, so that no delta is infinite.

    Args:
      boxes: [..., 4].
      anchors: [..., 4], anchors or proposals.
      weights: of dx, dy, dw, dh; detectron2 has 1, 1, 1, 1 for the RPN and 10, 10, 5, 5 for the box head.

    Returns:
      [..., 4] dx, dy, dw, dh; float32, or float64 where an argument is.
    """
    (centre, side), (anchor, anchor_side) = _centre_and_side(boxes), _centre_and_side(anchors)
    side, anchor_side = (jnp.where(s > 0, s, 1) for s in (side, anchor_side))
    deltas = jnp.concatenate([(centre - anchor) / anchor_side, jnp.log(side / anchor_side)], -1)
    return deltas * jnp.asarray(weights, deltas.dtype)


def decode(deltas: jax.Array, anchors: jax.Array, weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)) -> jax.Array:
    """Boxes from deltas and anchors; dw and dh are capped at log(1000 / 16), and have no floor.

    Class-specific deltas [R, K, 4] take anchors [R, 1, 4].

    Args:
      deltas: [..., 4].
      anchors: [..., 4].
      weights: as in `encode`.

    Returns:
      [..., 4]; float32, or float64 where an argument is.
    """
    anchor, side = _centre_and_side(anchors)
    deltas = widen(deltas)
    deltas = deltas / jnp.asarray(weights, deltas.dtype)
    shift, log_ratio = deltas[..., :2], jnp.minimum(deltas[..., 2:], MAX_LOG_RATIO)
    shift, log_ratio, anchor, side = jnp.broadcast_arrays(shift, log_ratio, anchor, side)
    return from_centre(jnp.concatenate([anchor + shift * side, jnp.exp(log_ratio) * side], -1))


def boxes_of_layers(instance: jax.Array, slots: int) -> tuple[jax.Array, jax.Array]:
    """The box and the pixel count of each instance of an id map.

    Two scatters, of counts a row and of counts a column, rather than one a corner: they give the pixel count as well,
    and fewer pixels meet in one place.

    Args:
      instance: integers [H, W, L]; k means that slot k - 1 covers the pixel in this layer, 0 that nothing does.
        Ids above `slots` are left out.
      slots: N, static.

    Returns:
      (boxes float32 [N, 4], zeros for a slot without a pixel; pixels int32 [N], summed over the layers).

    Raises:
      ModelError: not an id map [H, W, L] of integers.
    """
    if instance.ndim != 3 or not jnp.issubdtype(instance.dtype, jnp.integer):
        raise ModelError(f"boxes_of_layers takes integers [H, W, L]; got {instance.dtype} {instance.shape}")
    height, width, _ = instance.shape
    slot = instance.astype(jnp.int32)
    # Row 0 takes the background; what does not fit is dropped.
    rows = jnp.zeros((slots + 1, height), jnp.int32).at[slot, jnp.arange(height)[:, None, None]].add(1, mode="drop")
    columns = jnp.zeros((slots + 1, width), jnp.int32).at[slot, jnp.arange(width)[:, None]].add(1, mode="drop")
    pixels = rows[1:].sum(1)
    (x0, x1), (y0, y1) = _extent(columns[1:] > 0), _extent(rows[1:] > 0)
    boxes = jnp.where(pixels[:, None] > 0, jnp.stack([x0, y0, x1, y1], -1), 0)
    return boxes.astype(jnp.float32), pixels


def _extent(present: jax.Array) -> tuple[jax.Array, jax.Array]:
    """bool [N, size] -> the first index that is true, and the last plus one."""
    return jnp.argmax(present, 1), present.shape[1] - jnp.argmax(present[:, ::-1], 1)


def _sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    chex.assert_axis_dimension(boxes, -1, 4)
    return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def _centre_and_side(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    chex.assert_axis_dimension(boxes, -1, 4)
    boxes = to_centre(widen(boxes))
    return boxes[..., :2], boxes[..., 2:]


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """part / whole, and 0 with a gradient of 0 where there is no whole."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)
