"""Choosing the pixels of an image on which a network is most wrong."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def kth_surprise(surprise: jax.Array, counted: jax.Array, share: float) -> jax.Array:
    """float32 [B], the surprise of the last of the hardest `share` of an image's pixels that count, at least of one.

    Args:
      surprise: float32 [B, H, W], -log p of the label.
      counted: bool [B, H, W].
      share: in (0, 1].
    """
    flat = jnp.where(counted, -surprise, jnp.inf).reshape(len(surprise), -1)
    ordered = lax.sort(lax.stop_gradient(flat), dimension=1)
    kept = jnp.ceil(share * counted.sum(axis=(1, 2))).astype(jnp.int32)
    return -jnp.take_along_axis(ordered, jnp.maximum(kept - 1, 0)[:, None], axis=1)[:, 0]


def keep(losses: jax.Array, weights: jax.Array, kept: jax.Array) -> jax.Array:
    """The losses of the kept pixels alone, scaled so that an image's sum, over all its `weights`, is their mean.

    Args:
      losses: float32 [B, H, W], times their weight.
      weights: float32 [B, H, W], 0 at pixels that do not count.
      kept: bool [B, H, W].
    """
    kept_weight = jnp.where(kept, weights, 0.0).sum(axis=(1, 2), keepdims=True)
    scale = weights.sum(axis=(1, 2), keepdims=True) / jnp.where(kept_weight > 0, kept_weight, 1.0)
    return jnp.where(kept, losses * scale, 0.0)
