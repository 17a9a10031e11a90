"""Boundary F1: how well predicted outlines follow the true ones.

Csurka, Larlus, Perronnin. What is a good evaluation measure for semantic segmentation? BMVC 2013, section 2.2, which
takes the contour precision and recall of Martin et al. (PAMI 2004) to every class, with a tolerance of 0.75 % of the
image diagonal.

Shape legend: B batch, H height, W width, K classes.

A pixel is on the boundary of its class when one of its four neighbours is of another class. So "which classes have a
boundary near here" packs into bits, 32 classes a word, and widening the boundaries of all classes by a disk is one run
of ORs of shifted words.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.schema import LABEL, SIZE
from segjax.metrics.base import Batch, State, add, counted_pixels
from segjax.metrics.confusion import mean_of_known

TOLERANCE = 0.0075  # of the image diagonal

_BITS = 32
# Pixels. A tolerance of exactly 5, in float32, must reach a distance of 5; the next possible distance is farther off.
_SLACK = 1e-3


@dataclasses.dataclass(frozen=True)
class BoundaryF1:
    """The mean over images of each class's boundary F1. Predictions are `label` int [B, H, W].

    Attributes:
      num_classes: K.
      tolerance: share of the image diagonal (of the padded image without `size`).
    """

    num_classes: int
    tolerance: float = TOLERANCE

    def init(self) -> State:
        """`f1` float64 [K], the sum over images, and `images` int64 [K], how many there were."""
        return {"f1": np.zeros(self.num_classes, np.float64), "images": np.zeros(self.num_classes, np.int64)}

    def update(self, predictions: State, batch: Batch) -> State:
        """float32 and int32."""
        label = batch[LABEL]
        tolerance = limit = diagonal_tolerance(*label.shape[1:], self.tolerance)
        if SIZE in batch:
            tolerance = diagonal_tolerance(*batch[SIZE].T.astype(jnp.float32), self.tolerance)
        inside = counted_pixels(batch)
        counts = boundary_counts(predictions[LABEL], label, inside, self.num_classes, tolerance, limit)
        f1, present = boundary_f1(counts)
        return {"f1": jnp.where(present, f1, 0.0).sum(axis=0), "images": present.sum(axis=0, dtype=jnp.int32)}

    def merge(self, a: State, b: State) -> State:
        """Adds."""
        return add(a, b)

    def result(self, state: State) -> dict[str, float | list]:
        """`boundary_f1` and the list `per_class_boundary_f1`; NaN for a class that no image has."""
        images = np.asarray(state["images"], np.float64)
        total = np.asarray(state["f1"], np.float64)
        per_class = np.divide(total, images, out=np.full(images.shape, np.nan), where=images > 0)
        return {"boundary_f1": mean_of_known(per_class), "per_class_boundary_f1": per_class.tolist()}


def diagonal_tolerance(height, width, share: float = TOLERANCE):
    """The tolerance in pixels of an image of that size; numbers or arrays."""
    return share * (height * height + width * width) ** 0.5


def boundary_counts(
    pred: jax.Array,
    label: jax.Array,
    valid: jax.Array,
    num_classes: int,
    tolerance_px: float | jax.Array,
    max_tolerance_px: float | None = None,
) -> jax.Array:
    """Counts boundary pixels, and those within reach of the other side's boundary of the same class.

    A pixel whose truth is void (anything outside 0..K-1) is void in the prediction too, is on no boundary and makes no
    neighbour one: the edge of an unlabelled region is not an outline.

    Args:
      pred: int [B, H, W], predicted classes.
      label: int [B, H, W], true classes.
      valid: bool [B], or [B, H, W] with false at pixels that are padding.
      num_classes: K.
      tolerance_px: Euclidean distance in pixels up to which a boundary pixel is found; a float, or an array [B].
      max_tolerance_px: a bound of `tolerance_px` known at trace time; needed when that is an array.

    Returns:
      int32 [B, K, 4]: predicted boundary pixels that are near the true boundary, predicted boundary pixels, true
      boundary pixels that are near the predicted boundary, true boundary pixels.
    """
    if max_tolerance_px is None:
        max_tolerance_px = float(tolerance_px)
    tolerance = jnp.broadcast_to(jnp.asarray(tolerance_px, jnp.float32), label.shape[:1])
    valid = valid.reshape(valid.shape + (1,) * (label.ndim - valid.ndim))
    truth = jnp.where(valid, _void_negative(label, num_classes), -1)
    guess = jnp.where(truth >= 0, _void_negative(pred, num_classes), -1)
    true_edge, guess_edge = _is_boundary(truth), _is_boundary(guess)
    true_near = guess_near = jnp.zeros(label.shape, bool)
    for word in range(math.ceil(num_classes / _BITS)):
        true_bits, guess_bits = _class_bits(truth, word), _class_bits(guess, word)
        true_wide = _dilate(jnp.where(true_edge, true_bits, 0), tolerance, max_tolerance_px)
        guess_wide = _dilate(jnp.where(guess_edge, guess_bits, 0), tolerance, max_tolerance_px)
        guess_near |= (true_wide & guess_bits) != 0
        true_near |= (guess_wide & true_bits) != 0
    counts = [
        _count(guess, guess_edge & guess_near, num_classes),
        _count(guess, guess_edge, num_classes),
        _count(truth, true_edge & true_near, num_classes),
        _count(truth, true_edge, num_classes),
    ]
    return jnp.stack(counts, axis=-1)


def boundary_f1(counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """F1 of each image and class, from the counts of `boundary_counts`.

    F1 = 2 precision recall / (precision + recall). An image counts for a class when its truth has a boundary of it; one
    without a predicted boundary, or with none in reach, then scores 0.

    Args:
      counts: int [B, K, 4].

    Returns:
      f1: float32 [B, K], 0 where the image does not count.
      present: bool [B, K], whether the image counts for the class.
    """
    near_guess, guess, near_truth, truth = jnp.moveaxis(counts.astype(jnp.float32), -1, 0)
    precision = near_guess / jnp.maximum(guess, 1.0)
    recall = near_truth / jnp.maximum(truth, 1.0)
    both = precision + recall
    return jnp.where(both > 0, 2.0 * precision * recall / jnp.where(both > 0, both, 1.0), 0.0), counts[..., 3] > 0


def _void_negative(classes: jax.Array, num_classes: int) -> jax.Array:
    classes = classes.astype(jnp.int32)
    return jnp.where((classes >= 0) & (classes < num_classes), classes, -1)


def _shift(x: jax.Array, offset: int, axis: int, fill: int) -> jax.Array:
    """x moved by `offset` along an axis of [B, H, W]; `fill` comes in at the edge."""
    size = x.shape[axis]
    offset = max(-size, min(size, offset))
    pads = [(0, 0, 0)] * x.ndim
    pads[axis] = (offset, -offset, 0)
    return jax.lax.pad(x, jnp.asarray(fill, x.dtype), pads)


def _is_boundary(classes: jax.Array) -> jax.Array:
    edge = jnp.zeros(classes.shape, bool)
    for axis in (1, 2):
        for offset in (-1, 1):
            neighbour = _shift(classes, offset, axis, -1)
            edge |= (neighbour >= 0) & (neighbour != classes)
    return edge & (classes >= 0)


def _class_bits(classes: jax.Array, word: int) -> jax.Array:
    """uint32 [B, H, W]: the bit of a pixel's class, if that lies in this word, else 0."""
    bit = jnp.uint32(1) << (classes % _BITS).astype(jnp.uint32)
    return jnp.where((classes >= 0) & (classes // _BITS == word), bit, jnp.uint32(0))


def _dilate(bits: jax.Array, tolerance: jax.Array, max_tolerance: float) -> jax.Array:
    """ORs each pixel with all pixels within the tolerance [B] of it.

    A disk is a stack of horizontal runs: rows are widened once for every run length, and each height of the disk takes
    the length that its image's tolerance allows.
    """
    reach = int(max_tolerance + _SLACK)
    runs = [bits]
    for half in range(1, reach + 1):
        runs.append(runs[-1] | _shift(bits, half, 2, 0) | _shift(bits, -half, 2, 0))
    square = (tolerance + _SLACK) ** 2
    wide = jnp.zeros_like(bits)
    for height in range(reach + 1):
        row = jnp.zeros_like(bits)
        for half in range(reach + 1):
            distance = height * height + half * half
            if distance <= (max_tolerance + _SLACK) ** 2:
                row = jnp.where((distance <= square)[:, None, None], runs[half], row)
        wide |= _shift(row, height, 1, 0) | _shift(row, -height, 1, 0)
    return wide


def _count(classes: jax.Array, where: jax.Array, num_classes: int) -> jax.Array:
    """int32 [B, K], pixels of each class among those marked."""
    return ((classes[..., None] == jnp.arange(num_classes)) & where[..., None]).sum(axis=(1, 2), dtype=jnp.int32)
