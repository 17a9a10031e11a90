"""Pixels become channels and channels pixels, without arithmetic; each device from its own rows where it can."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair, pair
from segjax.ops.halo import map_rows, map_windows


def space_to_depth(x: jax.Array, r: int | Pair) -> jax.Array:
    """[B, H, W, C] -> [B, ceil(H / rows), ceil(W / columns), rows * columns * C], zeros beyond the image; channels are
    ordered (row phase, column phase, C), as `depth_to_space` takes them."""
    (rows, columns), height, shards = pair(r), x.shape[1], row_shards()
    if shards == 1 or height % (shards * rows) == 0:
        return _fold(x, rows, columns)
    return map_windows(lambda part: _fold(part, rows, columns), x, span=rows, stride=rows, padding=(0, -height % rows))


def depth_to_space(x: jax.Array, r: int | Pair) -> jax.Array:
    """[B, H, W, rows * columns * C] -> [B, H * rows, W * columns, C]; channels are ordered (row phase, column phase,
    C)."""
    (rows, columns), height, shards = pair(r), x.shape[1], row_shards()
    if height % shards == 0:
        return _unfold(x, rows, columns)
    made = -(-height * rows // shards)

    def body(part: jax.Array, shard: jax.Array) -> jax.Array:
        # A device's first row may be a later phase of the first pixel it reads.
        return lax.dynamic_slice_in_dim(_unfold(part, rows, columns), shard * made % rows, made, axis=1)

    # One pixel more than a device needs where it begins at a pixel's first phase: all read as many rows.
    return map_rows(
        body, x, rows=height * rows, reads=lambda first, _: (first // rows, first // rows + -(-made // rows) + 1)
    )


def _fold(x: jax.Array, rows: int, columns: int) -> jax.Array:
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % rows), (0, -width % columns), (0, 0)))
    height, width = x.shape[1] // rows, x.shape[2] // columns
    x = x.reshape(batch, height, rows, width, columns, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height, width, rows * columns * channels)


def _unfold(x: jax.Array, rows: int, columns: int) -> jax.Array:
    batch, height, width, channels = x.shape
    depth = channels // (rows * columns)
    x = x.reshape(batch, height, width, rows, columns, depth).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * rows, width * columns, depth)
