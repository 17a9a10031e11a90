"""Scores to label maps, and how sure the network was.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.core.schema import IGNORE
from segjax.ops.geometry import inside
from segjax.ops.precision import widen


def labels_of(scores: jax.Array, sizes: jax.Array, void_class: int | None = None) -> jax.Array:
    """The class of the largest score, IGNORE outside each image's size; the first class wins a tie.

    Args:
      scores: float [B, H, W, K], logits or probabilities.
      sizes: int [B, 2], each image's true (height, width).
      void_class: the class that means void (`DatasetInfo.void_class`): IGNORE where it wins.

    Returns:
      [B, H, W], uint8 up to 255 classes, else int32.
    """
    _, height, width, classes = scores.shape
    dtype = jnp.uint8 if classes <= IGNORE else jnp.int32
    best = jnp.argmax(scores, axis=-1).astype(dtype)
    kept = inside(sizes, height, width)
    if void_class is not None:
        kept &= best != void_class
    return jnp.where(kept, best, jnp.asarray(IGNORE, dtype))


def probabilities_of(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis in float32."""
    return jax.nn.softmax(widen(logits), axis=-1)


def entropy(probabilities: jax.Array) -> jax.Array:
    """Shannon entropy of the last axis in nats, 0 (sure) to log K (no idea); float32."""
    p = jnp.asarray(probabilities).astype(jnp.float32)
    return -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0), axis=-1)
