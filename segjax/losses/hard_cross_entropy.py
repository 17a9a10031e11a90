"""Cross entropy of the pixels of an image on which a network is most wrong, weighed pixel by pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.losses.base import counted_pixels, target_classes
from segjax.losses.cross_entropy import CrossEntropy
from segjax.ops.precision import widen


def hard_pixels(labels: jax.Array, valid: jax.Array, num_classes: int, share: float) -> jax.Array:
    """int32 [B]: how many pixels of each image `hard_cross_entropy` adds up, from the labels alone.

    `share` of those that count, rounded down, but at least one where any counts.

    Args:
      labels, valid, share: as of `hard_cross_entropy`.
      num_classes: K.
    """
    counted = counted_pixels(labels, valid, num_classes).sum(axis=(1, 2))
    return jnp.minimum(jnp.maximum(jnp.floor(share * counted).astype(jnp.int32), 1), counted)


def hard_cross_entropy(
    logits: jax.Array, labels: jax.Array, valid: jax.Array, pixel_weights: jax.Array, share: float
) -> jax.Array:
    """float32 [B], the sum of the largest weighed cross entropies of each image, `hard_pixels` of them.

    Divided by the number of them over the batch this is the loss of Panoptic-DeepLab (arXiv:1911.10194, section 3.2;
    `DeepLabCE` of bowenc0221/panoptic-deeplab). There a device's batch chooses together, and void pixels count with a
    loss of 0; here each image chooses among its own, so that the loss does not depend on how a batch is divided, and
    void changes nothing. Pixels of equal loss share what is left of the number.

    Args:
      logits: float [B, H, W, K]; the arithmetic is float32.
      labels: int [B, H, W]; anything outside 0..K-1 is ignored.
      valid: bool [B, H, W].
      pixel_weights: float [B, H, W], at least 0.
      share: of an image's pixels that count, in (0, 1].
    """
    classes = logits.shape[-1]
    counted = counted_pixels(labels, valid, classes)
    logits = jnp.where(counted[..., None], widen(logits), 0.0)
    ones = jnp.ones(classes, logits.dtype)
    values = pixel_weights * CrossEntropy().values(logits, target_classes(labels, classes), counted, ones, 0.0)
    kept = hard_pixels(labels, valid, classes, share)

    flat = jnp.where(counted, values, -1.0).reshape(len(values), -1)
    ordered = lax.sort(lax.stop_gradient(-flat), dimension=1)
    least = -jnp.take_along_axis(ordered, jnp.maximum(kept - 1, 0)[:, None], axis=1)[:, :, None]
    above, equal = counted & (values > least), counted & (values == least)
    left = (kept - above.sum(axis=(1, 2))) / jnp.maximum(equal.sum(axis=(1, 2)), 1)
    return jnp.where(above, values, jnp.where(equal, left[:, None, None] * values, 0.0)).sum(axis=(1, 2))
