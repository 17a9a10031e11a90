"""Max-unpooling: values go back to where `segjax.ops.pooling.max_pool_argmax` found them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair, check_image, check_positive, pair
from segjax.ops.halo import map_rows


def max_unpool(
    x: jax.Array,
    code: jax.Array,
    size: Pair | None = None,
    window: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
) -> jax.Array:
    """Each value at the coded position of its window, zero elsewhere; equal to `torch.nn.functional.max_unpool2d`.

    A comparison against the window's positions, because a scatter is slow and gathers the whole batch under sharding.

    Args:
      x: [B, h, w, C].
      code: [B, h, w, C] from `max_pool_argmax` with the same window, stride and padding.
      size: (H, W) of the result; (h - 1) * stride - 2 * padding + window rows when left out, and less than a stride
        away from that otherwise.
      window, stride, padding: of the pooling; windows must not overlap.

    Returns:
      [B, H, W, C] of x's dtype.

    Raises:
      ModelError: code of another shape, overlapping windows (two may claim the same pixel), another size.
    """
    window, around = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    check_image(x, "max_unpool")
    check_positive("max_unpool", window=window, stride=stride)
    if code.shape != x.shape:
        raise ModelError(f"max_unpool: code {code.shape} and values {x.shape} differ; take both from one pooling")
    if window[0] > stride[0] or window[1] > stride[1]:
        raise ModelError(f"max_unpool: windows of {window} every {stride} pixels overlap; take stride >= window")
    least = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[1:3], stride, around, window)]
    rows, columns = least if size is None else size
    if any(abs(n - m) >= s for n, m, s in zip((rows, columns), least, stride)) or min(rows, columns) < 1:
        raise ModelError(f"max_unpool: size={(rows, columns)} is a stride or more from {tuple(least)}")

    def body(part: tuple[jax.Array, jax.Array], shard: jax.Array) -> jax.Array:
        spread = _spread(*part, window, stride)
        spread = jnp.pad(spread, ((0, 0), (0, stride[0]), (0, stride[1]), (0, 0)))
        # A device's rows may begin inside a window.
        first = (shard * made + around[0]) % stride[0]
        return lax.dynamic_slice_in_dim(spread, first, made, axis=1)[:, :, around[1] : around[1] + columns]

    shards = row_shards()
    made = -(-rows // shards)
    if shards == 1:
        spread = _spread(x, code, window, stride)
        missing = [max(0, p + n - m) for p, n, m in zip(around, (rows, columns), spread.shape[1:3])]
        spread = jnp.pad(spread, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0))) if any(missing) else spread
        return spread[:, around[0] : around[0] + rows, around[1] : around[1] + columns]

    def reads(first: int, last: int) -> Pair:
        return (first + around[0]) // stride[0], (last - 1 + around[0]) // stride[0] + 1

    return map_rows(body, (x, code), rows=rows, reads=reads)


def _spread(x: jax.Array, code: jax.Array, window: Pair, stride: Pair) -> jax.Array:
    """[B, h * stride, w * stride, C]: each window's value where its code says."""
    batch, height, width, channels = x.shape
    row, column = np.arange(stride[0])[:, None], np.arange(stride[1])
    # The pixels between windows have a code that no maximum has.
    position = np.where((row < window[0]) & (column < window[1]), row * window[1] + column, -1).astype(code.dtype)
    here = code[:, :, None, :, None] == position.reshape(1, 1, stride[0], 1, stride[1], 1)
    spread = jnp.where(here, x[:, :, None, :, None], jnp.zeros((), x.dtype))
    return spread.reshape(batch, height * stride[0], width * stride[1], channels)
