"""A static matrix applied along one axis of an image: what resizing and adaptive averages are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.ambient import row_shards
from segjax.ops.halo import multiply_rows
from segjax.ops.precision import wide_type


def along_axis(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """out[.., o, ..] = sum over i of matrix[o, i] * x[.., i, ..], along the rows (axis 1) or the columns (axis 2).

    A NaN or an infinity spreads along its whole row or column: every weight multiplies it, the zeros too.

    Args:
      matrix: [after, before], a constant of the program.
      x: [B, H, W, C], floating; the sum is taken in float32 and returned in x's dtype.
    """
    batch, _, width, channels = x.shape

    def product(weights: np.ndarray | jax.Array, x: jax.Array) -> jax.Array:
        weights = jnp.asarray(weights, x.dtype)
        if axis == 2:
            return _multiply(weights, x)
        # As one matrix an image: XLA:CPU takes twice the time for a product over the four axes.
        out = _multiply(weights, x.reshape(batch, -1, width * channels))
        return out.reshape(batch, -1, width, channels)

    split = axis == 1 and row_shards() > 1
    return multiply_rows(matrix, x, product) if split else product(matrix, x)


# Written out, because the gradient that jax makes contracts the first axis of the matrix, which XLA:CPU does slowly.
@jax.custom_vjp
def _multiply(matrix: jax.Array, x: jax.Array) -> jax.Array:
    """[after, before] times each [before, N] of [..., before, N]; no gradient in the matrix."""
    if matrix.shape[1] == 1:
        return matrix * x
    # A reduced-precision product would round every pixel of a float32 image to bfloat16 (TPU) or TF32 (GPU).
    exact = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.matmul(matrix, x, precision=exact, preferred_element_type=wide_type(x.dtype)).astype(x.dtype)


_multiply.defvjp(lambda matrix, x: (_multiply(matrix, x), matrix), lambda matrix, g: (None, _multiply(matrix.T, g)))
