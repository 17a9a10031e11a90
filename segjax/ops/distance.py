"""Euclidean distance to a set of pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def distance(inside: jax.Array) -> jax.Array:
    """How far each pixel is from the nearest pixel that is inside, exact; 0 inside.

    One dimension after the other (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, Theory of
    Computing 2012, section 2.1): a running maximum gives the distance along columns, and the least of its square plus
    that of the way along the row, over all columns, is the square sought. The second takes W steps of H x W each, all
    pixels at once, where the lower envelope would be a loop with data-dependent ends.

    Args:
      inside: bool [B, H, W, C], C sets apart from one another.

    Returns:
      float32 [B, H, W, C]; H + W where no pixel of the set is in the image.
    """
    height, width = inside.shape[1:3]
    row = jnp.arange(height, dtype=jnp.int32)[:, None, None]
    far = height + width
    above = lax.cummax(jnp.where(inside, row, -far), axis=1)
    below = lax.cummin(jnp.where(inside, row, height + far), axis=1, reverse=True)
    down = jnp.minimum(jnp.minimum(row - above, below - row), far)
    square = down * down
    column = jnp.arange(width, dtype=jnp.int32)[:, None]

    def with_column(i, least):
        return jnp.minimum(least, lax.dynamic_slice_in_dim(square, i, 1, axis=2) + (column - i) ** 2)

    least = lax.fori_loop(0, width, with_column, jnp.full_like(square, far * far))
    return jnp.sqrt(least.astype(jnp.float32))
