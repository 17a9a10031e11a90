"""Detections against true instances on the device: overlaps, and COCO's greedy matching.

Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014; the rules are those of cocodataset/cocoapi,
PythonAPI/pycocotools/cocoeval.py (`computeIoU`, `evaluateImg`) and common/maskApi.c (`rleIou`, `bbIou`).

Shape legend: B batch, D detections, N true instances, H height, W width, L layers, T thresholds, A area ranges.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from segjax.metrics.ratio import binary_digits

TWENTIETHS = np.arange(10, 20)
"""The T thresholds of IoU, 0.5, 0.55 .. 0.95, times 20. COCO's own, rounded to float64, divide the quotients of whole
numbers in the same way."""

_CELLS = 1 << 22  # values of masks and truth that are held as float32 at once; 16 MiB stay near a CPU's caches


class Overlap(NamedTuple):
    """How detections and true instances overlap.

    Attributes:
      reaches: bool [B, D, N, T], whether the IoU is at least the threshold.
      order: int32 [B, D, N], the place of the IoU among those of the same detection, 0 the least; where two are equal,
        the later instance has the higher place, as COCO takes it.
      area: int32 or float32 [B, D], of the detections, in pixels.
    """

    reaches: jax.Array
    order: jax.Array
    area: jax.Array


def mask_overlap(mask: jax.Array, instance: jax.Array, size: jax.Array, crowd: jax.Array) -> Overlap:
    """Overlaps by masks, exact in whole numbers for images of fewer than 10^8 pixels.

    Args:
      mask: bool [B, D, H, W], detections.
      instance: uint8 or uint16 [B, H, W, L], true instances: k says that instance k - 1 covers the pixel.
      size: int32 [B, 2], height and width before padding; masks beyond count nothing.
      crowd: bool [B, N], instances whose IoU is the share of the detection that lies in them.
    """
    both, found, true = _areas(mask, instance, size, crowd.shape[1])
    whole = found[:, :, None]
    union = jnp.where(crowd[:, None], whole, whole + true[:, None] - both)
    reaches = (20 * both)[..., None] >= TWENTIETHS.astype(np.int32) * union[..., None]
    high, rest = binary_digits(both, union, 30)
    low, _ = binary_digits(rest, union, 30)
    return Overlap(reaches & (both > 0)[..., None], _order(high, low), found)


def box_overlap(box: jax.Array, instance_box: jax.Array, crowd: jax.Array) -> Overlap:
    """Overlaps by boxes, in float32, so exact where the coordinates are whole numbers and areas below 2^24.

    Args:
      box: float32 [B, D, 4], x0, y0, x1, y1.
      instance_box: float32 [B, N, 4].
      crowd: bool [B, N], as in `mask_overlap`.
    """
    low = jnp.maximum(box[:, :, None, :2], instance_box[:, None, :, :2])
    high = jnp.minimum(box[:, :, None, 2:], instance_box[:, None, :, 2:])
    both = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
    found, true = box_area(box), box_area(instance_box)
    whole = found[:, :, None]
    union = jnp.where(crowd[:, None], whole, whole + true[:, None] - both)
    reaches = (20 * both)[..., None] >= TWENTIETHS.astype(np.float32) * union[..., None]
    iou = jnp.where(both > 0, both / jnp.where(union > 0, union, 1.0), 0.0)
    return Overlap(reaches & (both > 0)[..., None], _order(iou, jnp.zeros_like(iou)), found)


def box_area(box: jax.Array) -> jax.Array:
    """float32 [...] of boxes x0, y0, x1, y1 [..., 4]."""
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])


def match(overlap: Overlap, compatible: jax.Array, crowd: jax.Array, ignored: jax.Array) -> tuple[jax.Array, jax.Array]:
    """COCO's matching: detections take, from the best on, the true instance of the highest IoU that is left.

    An instance that counts goes before all that are ignored; a crowd may be taken any number of times.

    Args:
      overlap: with detections sorted by falling score.
      compatible: bool [B, D, N], whether the detection may take the instance: both exist, the classes are the same.
      crowd: bool [B, N].
      ignored: bool [B, A, N], instances that do not count in the area range.

    Returns:
      taken: bool [B, D, T, A], whether the detection has an instance.
      excused: bool [B, D, T, A], whether that is ignored, so that the detection does not count.
    """
    detections, slots = compatible.shape[1:]
    chex.assert_shape(overlap.reaches, (..., detections, slots, len(TWENTIETHS)))
    ranges = ignored.shape[1]
    # From 1 on, and above all ignored instances where one counts.
    worth = overlap.order[:, :, None] + 1 + slots * ~ignored[:, None]
    may = compatible[..., None] & overlap.reaches
    by_detection = [jnp.moveaxis(x, 1, 0) for x in (may, worth)]

    def step(free, one):
        may, worth = one  # [B, N, T], [B, A, N]
        value = jnp.where(jnp.moveaxis(may, -1, 1)[:, :, None] & free, worth[:, None], 0)  # [B, T, A, N]
        taken = value.max(axis=-1) > 0
        chosen = (jnp.arange(slots) == value.argmax(axis=-1)[..., None]) & taken[..., None]
        excused = (chosen & ignored[:, None]).any(axis=-1)
        return free & ~(chosen & ~crowd[:, None, None]), (taken, excused)

    free = jnp.ones((crowd.shape[0], len(TWENTIETHS), ranges, slots), bool)
    _, (taken, excused) = jax.lax.scan(step, free, tuple(by_detection))
    return jnp.moveaxis(taken, 0, 1), jnp.moveaxis(excused, 0, 1)


def _areas(mask: jax.Array, instance: jax.Array, size: jax.Array, slots: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pixels in both int32 [B, D, N], of detections [B, D] and of true instances [B, N]; a band of rows at a time."""
    batch, detections, height, width = mask.shape
    chex.assert_shape(instance, (batch, height, width, None))
    rows = min(height, max(1, _CELLS // (batch * (detections + slots) * width)))
    idents = jnp.arange(1, slots + 1, dtype=instance.dtype)[:, None, None, None]

    def band(index, sums):
        # The last band begins early enough to be whole, and leaves out the rows that the one before it had.
        start = jnp.minimum(index * rows, height - rows)
        row, column = start + jnp.arange(rows)[:, None], jnp.arange(width)
        new = (row >= index * rows) & (row < size[:, 0, None, None]) & (column < size[:, 1, None, None])
        found = jax.lax.dynamic_slice_in_dim(mask, start, rows, axis=2) & new[:, None]
        layers = jax.lax.dynamic_slice_in_dim(instance, start, rows, axis=1) * new[..., None].astype(instance.dtype)
        true = (layers[:, None] == idents).any(axis=-1)
        found, true = (x.reshape(*x.shape[:2], rows * width).astype(jnp.float32) for x in (found, true))
        # Products are 0 or 1, so that every precision of a matrix product is exact.
        new_sums = jnp.einsum("bdp,bnp->bdn", found, true), found.sum(axis=-1), true.sum(axis=-1)
        return jax.tree.map(lambda total, part: total + part.astype(jnp.int32), sums, new_sums)

    shapes = (batch, detections, slots), (batch, detections), (batch, slots)
    return jax.lax.fori_loop(0, -(-height // rows), band, tuple(jnp.zeros(shape, jnp.int32) for shape in shapes))


def _order(high: jax.Array, low: jax.Array) -> jax.Array:
    """int32 [B, D, N]: how many of [B, D, N] are less than each, by `high`, then `low`, then place."""
    mine, other = (x[..., :, None] for x in (high, low)), (x[..., None, :] for x in (high, low))
    (high, low), (other_high, other_low) = mine, other
    place = jnp.arange(high.shape[-2])
    earlier = (other_low < low) | ((other_low == low) & (place < place[:, None]))
    return ((other_high < high) | ((other_high == high) & earlier)).sum(axis=-1, dtype=jnp.int32)
