"""Borders added around an image, or cut off."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair
from segjax.ops.halo import map_rows, take_rows


def border(x: jax.Array, rows: Pair, columns: Pair) -> jax.Array:
    """[B, H, W, C] -> [B, top + H + bottom, left + W + right, C] for rows (top, bottom) and columns (left, right), with
    zeros where these are positive and cut off where they are negative."""
    zero = jnp.zeros((), x.dtype)
    if row_shards() == 1 or rows == (0, 0):
        return lax.pad(x, zero, ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))
    x = lax.pad(x, zero, ((0, 0, 0), (0, 0, 0), (*columns, 0), (0, 0, 0)))
    height = x.shape[1] + sum(rows)
    held = -(-height // row_shards())  # of the result, by each device; the last rows may be padding

    def reads(first: int, _: int) -> Pair:
        return first - rows[0], first - rows[0] + held

    return map_rows(lambda part, _: part, x, rows=height, reads=reads)


def crop(x: jax.Array, first: Pair, size: Pair) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C], from row and column `first` on."""
    rows, columns = ((-start, start + wanted - n) for n, start, wanted in zip(x.shape[1:3], first, size))
    return border(x, rows, columns)


def mirror(x: jax.Array, rows: Pair, columns: Pair) -> jax.Array:
    """[B, H, W, C] -> [B, top + H + bottom, left + W + right, C] for rows (top, bottom) and columns (left, right), with
    the image's own pixels mirrored at its border.

    The border's own pixels are not repeated, as in `numpy.pad(mode="reflect")`; a border wider than the image mirrors
    it over and over.
    """
    if row_shards() == 1:
        return jnp.pad(x, ((0, 0), rows, columns, (0, 0)), mode="reflect")
    x = jnp.pad(x, ((0, 0), (0, 0), columns, (0, 0)), mode="reflect")
    return take_rows(x, np.pad(np.arange(x.shape[1]), rows, mode="reflect"))
