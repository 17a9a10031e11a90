"""A static matrix applied along one axis of an image: what resizing and adaptive averages are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.halo import multiply_rows, row_shards


def along_axis(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """out[.., o, ..] = sum over i of matrix[o, i] * x[.., i, ..], along the rows (axis 1) or the columns (axis 2).

    A NaN or an infinity spreads along its whole row or column: every weight multiplies it, the zeros too.

    Args:
      matrix: [after, before], a constant of the program.
      x: [B, H, W, C], floating; the sum is taken in float32 and returned in x's dtype.
    """
    equation = {1: "oi,bihc->bohc", 2: "oi,bhic->bhoc"}[axis]
    # A reduced-precision product would round every pixel of a float32 image to bfloat16 (TPU) or TF32 (GPU).
    exact = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None

    def product(weights: np.ndarray | jax.Array, x: jax.Array) -> jax.Array:
        weights = jnp.asarray(weights, x.dtype)
        return jnp.einsum(equation, weights, x, precision=exact, preferred_element_type=jnp.float32)

    split = axis == 1 and row_shards() > 1
    return (multiply_rows(matrix, x, product) if split else product(matrix, x)).astype(x.dtype)
