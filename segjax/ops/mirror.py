"""Padding with the image's own pixels, mirrored at its border."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair
from segjax.ops.halo import take_rows


def mirror(x: jax.Array, rows: Pair, columns: Pair) -> jax.Array:
    """[B, H, W, C] -> [B, top + H + bottom, left + W + right, C] for rows (top, bottom) and columns (left, right).

    The border's own pixels are not repeated, as in `numpy.pad(mode="reflect")`; a border wider than the image mirrors
    it over and over.
    """
    if row_shards() == 1:
        return jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode="reflect")
    x = jnp.pad(x, ((0, 0), (0, 0), columns, (0, 0)), mode="reflect")
    return take_rows(x, np.pad(np.arange(x.shape[1]), rows, mode="reflect"))
