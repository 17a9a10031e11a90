"""Errors of regressed maps, where a mask says that there is something to regress."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from segjax.ops.precision import widen


def squared_error(values: jax.Array, targets: jax.Array, counted: jax.Array) -> jax.Array:
    """float32 [B]: sums of squared differences over the pixels that count; see `absolute_error`."""
    return jnp.square(_difference(values, targets, counted)).sum(axis=(1, 2, 3))


def absolute_error(values: jax.Array, targets: jax.Array, counted: jax.Array) -> jax.Array:
    """float32 [B]: sums of absolute differences over the pixels that count.

    What a network said elsewhere, NaN and infinity included, reaches neither the value nor the gradient.

    Args:
      values: float [B, H, W, C].
      targets: float [B, H, W, C].
      counted: bool [B, H, W].
    """
    return jnp.abs(_difference(values, targets, counted)).sum(axis=(1, 2, 3))


def _difference(values: jax.Array, targets: jax.Array, counted: jax.Array) -> jax.Array:
    chex.assert_equal_shape([values, targets])
    chex.assert_shape(counted, values.shape[:3])
    return jnp.where(counted[..., None], widen(values) - targets, 0.0)
