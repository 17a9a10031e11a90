"""All-pairs Gaussian sums in tiles: exact, differentiable in everything, quadratic in the number of points."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

TILE = 512


def exact_filter(features: jax.Array, values: jax.Array, tile: int = TILE, *, at: jax.Array | None = None) -> jax.Array:
    """out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j, the term j = i included. The reference of `exact_pallas`.

    No array of more than tile x tile pairs exists at a time, neither here nor in the gradient.

    Args:
      features: [B, N, d] floating.
      values: [B, N, C] floating.
      tile: pairs a side of a tile.
      at: [B, M, d], the f_i where the sums are wanted; the features by default.

    Returns:
      [B, N, C], or [B, M, C], of the values' dtype, summed in float32 at least.
    """
    at = features if at is None else at
    (batch, points, channels), wanted = values.shape, at.shape[1]
    tile = min(tile, points)
    wide = jnp.promote_types(values.dtype, jnp.float32)

    def tiles(x):
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % tile), (0, 0)))
        return x.reshape(batch, -1, tile, x.shape[2]).swapaxes(0, 1)

    # A padded point stands at the origin with the value 0: it adds nothing to the others, and its own sum is cut off.
    columns = tiles(features), tiles(values.astype(wide))

    @jax.checkpoint
    def pair(total, rows, columns, column_values):
        # Differences, not |a|^2 - 2ab + |b|^2: at theta_beta = 3 the squares are 10^4 times the exponents that matter.
        square = sum((rows[..., :, None, i] - columns[..., None, :, i]) ** 2 for i in range(rows.shape[-1]))
        kernel = jnp.exp(-0.5 * square).astype(wide)
        return total + jnp.einsum("bij,bjc->bic", kernel, column_values, precision=lax.Precision.HIGHEST)

    def row_tile(rows):
        start = jnp.zeros((batch, tile, channels), wide)
        return lax.scan(lambda total, column: (pair(total, rows, *column), None), start, columns)[0]

    out = lax.map(row_tile, tiles(at)).swapaxes(0, 1).reshape(batch, -1, channels)
    return out[:, :wanted].astype(values.dtype)
