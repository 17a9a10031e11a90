"""Pooling. Non-overlapping maxima are running maxima over strided slices: no select-and-scatter in the gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.geometry import Pair, pair


def max_pool(
    x: jax.Array,
    window: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
) -> jax.Array:
    """Maximum over windows of [B, H, W, C], equal to `torch.nn.functional.max_pool2d`; on a tie the gradient goes to
    the first pixel of the window. `stride` defaults to `window`; `ceil_mode` keeps a last, partial window."""
    window, stride, pads = _windows(x, window, stride, padding, ceil_mode)
    # A numpy constant: reduce_window has a gradient only where it can see that it starts from -inf.
    lowest = np.array(-np.inf, x.dtype)
    if window == stride:
        first, *rest = _slices(lax.pad(x, lowest, _lax_pads(pads)), window)
        best = first
        for other in rest:
            best = jnp.where(_beats(other, best), other, best)
        return best
    return lax.reduce_window(x, lowest, lax.max, (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0)))


def avg_pool(
    x: jax.Array,
    window: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """Mean over windows of [B, H, W, C], equal to `torch.nn.functional.avg_pool2d`. The sum is taken in float32; the
    padding counts as zeros, or not at all with `count_include_pad=False`."""
    sizes, around = x.shape[1:3], pair(padding)
    window, stride, pads = _windows(x, window, stride, padding, ceil_mode)
    wide = x.astype(jnp.float32)
    total = lax.reduce_window(wide, 0.0, lax.add, (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0)))
    counts = []
    for axis in (0, 1):
        starts = np.arange(total.shape[1 + axis]) * stride[axis] - around[axis]
        lowest, highest = (-around[axis], sizes[axis] + around[axis]) if count_include_pad else (0, sizes[axis])
        counts.append(np.minimum(starts + window[axis], highest) - np.maximum(starts, lowest))
    share = 1.0 / (counts[0][:, None, None] * counts[1][None, :, None]).astype(np.float32)
    return (total * share).astype(x.dtype)


def max_pool_argmax(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """2x2 maxima at stride 2 and where they stood.

    Args:
      x: [B, H, W, C]; an odd size is padded at the end, so the result has ceil(H / 2) rows.

    Returns:
      values [B, ceil(H / 2), ceil(W / 2), C] of x's dtype, and code int8 of the same shape: 2 * row + column of the
      maximum inside its window, the first on a tie.
    """
    pads = ((0, x.shape[1] % 2), (0, x.shape[2] % 2))
    first, *rest = _slices(lax.pad(x, jnp.array(-jnp.inf, x.dtype), _lax_pads(pads)), (2, 2))
    best, code = first, jnp.zeros(first.shape, jnp.int8)
    for position, other in enumerate(rest, start=1):
        better = _beats(other, best)
        best, code = jnp.where(better, other, best), jnp.where(better, jnp.int8(position), code)
    return best, code


def global_avg_pool(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 1, 1, C], the mean over the image, taken in float32, of x's dtype."""
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(x.dtype)


def _beats(other: jax.Array, best: jax.Array) -> jax.Array:
    # A NaN wins, so that a diverged network is seen and not pooled away.
    return (other > best) | (other != other)


def _slices(x: jax.Array, window: Pair) -> list[jax.Array]:
    """x as each position of a non-overlapping window sees it, row by row; H and W are cut to whole windows."""
    rows, columns = (n // w * w for n, w in zip(x.shape[1:3], window))
    return [x[:, i : rows : window[0], j : columns : window[1]] for i in range(window[0]) for j in range(window[1])]


def _windows(x, window, stride, padding, ceil_mode) -> tuple[Pair, Pair, tuple[Pair, Pair]]:
    window, around = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    pads = []
    for size, k, s, p in zip(x.shape[1:3], window, stride, around):
        after = p
        if ceil_mode:
            count = -(-(size + 2 * p - k) // s) + 1
            if (count - 1) * s >= size + p:  # PyTorch drops a window that would start in the bottom padding.
                count -= 1
            after = max(p, (count - 1) * s + k - size - p)
        pads.append((p, after))
    return window, stride, (pads[0], pads[1])


def _lax_pads(pads: tuple[Pair, Pair]):
    return ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0))
