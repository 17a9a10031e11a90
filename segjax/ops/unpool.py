"""Max-unpooling: values go back to where `segjax.ops.pooling.max_pool_argmax` found them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.ops.geometry import Pair


def max_unpool(x: jax.Array, code: jax.Array, size: Pair | None = None) -> jax.Array:
    """Spread each value over a 2x2 window: at the coded position the value, elsewhere zero.

    A comparison against the four positions, because a scatter is slow and gathers the whole batch under sharding.

    Args:
      x: [B, h, w, C].
      code: int8 [B, h, w, C] from `max_pool_argmax`.
      size: (H, W) of the result, 2h or 2h - 1 rows; 2h x 2w when left out.

    Returns:
      [B, H, W, C] of x's dtype.
    """
    batch, height, width, channels = x.shape
    position = jnp.arange(4, dtype=code.dtype).reshape(1, 1, 2, 1, 2, 1)
    here = code[:, :, None, :, None] == position
    spread = jnp.where(here, x[:, :, None, :, None], jnp.zeros((), x.dtype))
    spread = spread.reshape(batch, 2 * height, 2 * width, channels)
    return spread if size is None else spread[:, : size[0], : size[1]]
