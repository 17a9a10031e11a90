"""Pooling. A window is as many strided slices as it has pixels, and the gradient as many shifts: XLA's own maxima have
a select-and-scatter for a gradient, ten times slower on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair, check_image, check_positive, pair
from segjax.ops.halo import map_windows
from segjax.ops.kept import kept
from segjax.ops.precision import wide_type, widen

# A larger window takes XLA's own reduction, whose program does not grow with it.
_MOST_SLICES = 25


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
    return _over_rows(
        lambda part, pads: _max(part, window, stride, pads), x, window, stride, pads, fill=_least(x.dtype)
    )


def _max(x: jax.Array, window: Pair, stride: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    if math.prod(window) <= _MOST_SLICES:
        return _max_argmax(x, window, stride, pads)[0]
    return lax.reduce_window(x, _least(x.dtype), lax.max, (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0)))


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

    total = _over_rows(lambda part, pads: _sum(widen(part), window, stride, pads), x, window, stride, pads)
    counts = []
    for axis in (0, 1):
        starts = np.arange(total.shape[1 + axis]) * stride[axis] - around[axis]
        lowest, highest = (-around[axis], sizes[axis] + around[axis]) if count_include_pad else (0, sizes[axis])
        counts.append(np.minimum(starts + window[axis], highest) - np.maximum(starts, lowest))
    share = 1.0 / (counts[0][:, None, None] * counts[1][None, :, None]).astype(np.float32)
    return (total * share).astype(x.dtype)


def _sum(x: jax.Array, window: Pair, stride: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    if math.prod(window) <= _MOST_SLICES:
        return _sum_slices(x, window, stride, pads)
    return lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *stride, 1), ((0, 0), *pads, (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _sum_slices(x: jax.Array, window: Pair, stride: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    return sum(_slices(lax.pad(x, jnp.zeros((), x.dtype), _lax_pads(pads)), window, stride))


def _sum_forward(x, window, stride, pads):
    return _sum_slices(x, window, stride, pads), x.shape[1:3]


def _sum_backward(window, stride, pads, size, gradient):
    return (_fold(lambda position, g: g, [(gradient, 0)], size, window, stride, pads),)


_sum_slices.defvjp(_sum_forward, _sum_backward)


def max_pool_argmax(
    x: jax.Array,
    window: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
    ceil_mode: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Maxima and where they stood, equal to `torch.nn.functional.max_pool2d(return_indices=True)`, whose indices
    `pool_index` gives. By default 2x2 windows; of an odd size the last window is partial, as SegNet's and ENet's.

    Args:
      x: [B, H, W, C].
      window, stride, padding, ceil_mode: as in `max_pool`, but for the default of `ceil_mode`.

    Returns:
      values [B, h, w, C] of x's dtype, and code of the same shape, int8 (int32 for windows of more than 127 pixels):
      window columns * row + column of the maximum inside its window, the first on a tie.
    """
    window, stride, pads = _windows(x, window, stride, padding, ceil_mode)
    return _over_rows(
        lambda part, pads: _max_argmax(part, window, stride, pads), x, window, stride, pads, fill=_least(x.dtype)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_argmax(x: jax.Array, window: Pair, stride: Pair, pads: tuple[Pair, Pair]) -> tuple[jax.Array, jax.Array]:
    kind = jnp.int8 if window[0] * window[1] <= 127 else jnp.int32
    first, *rest = _slices(lax.pad(x, _least(x.dtype), _lax_pads(pads)), window, stride)
    best, code = first, jnp.zeros_like(first, kind)
    for position, other in enumerate(rest, start=1):
        better = _beats(other, best)
        best, code = jnp.where(better, other, best), jnp.where(better, jnp.asarray(position, kind), code)
    return best, code


def _max_forward(x, window, stride, pads):
    best, code = _max_argmax(x, window, stride, pads)
    return (best, code), (code, x.shape[1:3])


def _max_backward(window, stride, pads, saved, gradient):
    code, size = saved
    holds = lambda position, code, g: jnp.where(code == position, g, jnp.zeros((), g.dtype))  # noqa: E731
    return (_fold(holds, [(code, -1), (gradient[0], 0)], size, window, stride, pads),)


_max_argmax.defvjp(_max_forward, _max_backward)


def pool_index(
    code: jax.Array,
    size: Pair,
    window: int | Pair = 2,
    stride: int | Pair | None = None,
    padding: int | Pair = 0,
) -> jax.Array:
    """PyTorch's indices from the code of `max_pool_argmax`: int32 [B, h, w, C], row * W + column of each maximum in
    the image of `size` (H, W)."""
    window, around = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    code = code.astype(jnp.int32)
    row = jnp.arange(code.shape[1])[:, None, None] * stride[0] - around[0] + code // window[1]
    column = jnp.arange(code.shape[2])[:, None] * stride[1] - around[1] + code % window[1]
    return row * size[1] + column


def global_avg_pool(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, 1, 1, C], the mean over the image, taken in float32, of x's dtype."""
    return jnp.mean(x, axis=(1, 2), keepdims=True, dtype=wide_type(x.dtype)).astype(x.dtype)


def _over_rows(pool, x: jax.Array, window: Pair, stride: Pair, pads: tuple[Pair, Pair], fill: float = 0):
    """`pool(x, pads)`; where devices split the rows, each over its own and a halo, `fill` outside the image."""
    if row_shards() == 1:
        return pool(x, pads)
    return map_windows(
        lambda part: pool(part, ((0, 0), pads[1])),
        x,
        span=window[0],
        stride=stride[0],
        padding=pads[0],
        fill=fill,
    )


def _beats(other: jax.Array, best: jax.Array) -> jax.Array:
    # A NaN wins, so that a diverged network is seen and not pooled away.
    return (other > best) | (other != other)


def _least(dtype: jnp.dtype) -> np.ndarray:
    """What no value of the dtype is below. A numpy constant: reduce_window has a gradient only where it can see that it
    starts from -inf."""
    return np.array(-np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype)


def _slices(x: jax.Array, window: Pair, stride: Pair) -> list[jax.Array]:
    """x as each position of a window sees it, row by row of the window."""
    rows, columns = ((n - w) // s * s + 1 for n, w, s in zip(x.shape[1:3], window, stride))
    return [
        x[:, i : i + rows : stride[0], j : j + columns : stride[1]] for i in range(window[0]) for j in range(window[1])
    ]


def _fold(
    share: Callable[..., jax.Array],
    arrays: list[tuple[jax.Array, int]],
    size: Pair,
    window: Pair,
    stride: Pair,
    pads: tuple[Pair, Pair],
) -> jax.Array:
    """[B, *size, C], each pixel the sum of `share(position, *arrays)` over the windows that hold it.

    Each phase of the stride is a sum of the arrays shifted, at the windows' resolution: nothing is scattered.

    Args:
      share: what a window gives to its pixel at a position, counted row by row of the window.
      arrays: pairs (array [B, h, w, C] with an entry a window, what it holds where there is no window).
    """
    batch, *windows, channels = arrays[0][0].shape
    reach = [(k - 1) // s for k, s in zip(window, stride)]
    steps = [max(-(-(n + sum(p)) // s), count + r) for n, p, s, count, r in zip(size, pads, stride, windows, reach)]
    around = [(0, 0), *((r, n - count) for r, n, count in zip(reach, steps, windows)), (0, 0)]
    arrays = [jnp.pad(kept(array), around, constant_values=fill) for array, fill in arrays]

    def phase(row: int, column: int) -> jax.Array:
        total = jnp.zeros((batch, *steps, channels), arrays[-1].dtype)
        for i in range(row, window[0], stride[0]):
            for j in range(column, window[1], stride[1]):
                top, left = (r - n // s for r, n, s in zip(reach, (i, j), stride))
                seen = [array[:, top : top + steps[0], left : left + steps[1]] for array in arrays]
                total = total + share(i * window[1] + j, *seen)
        return total

    phases = [jnp.stack([phase(i, j) for j in range(stride[1])], 3) for i in range(stride[0])]
    image = jnp.stack(phases, 2).reshape(batch, steps[0] * stride[0], steps[1] * stride[1], channels)
    (top, _), (left, _) = pads
    return image[:, top : top + size[0], left : left + size[1]]


def _windows(x, window, stride, padding, ceil_mode) -> tuple[Pair, Pair, tuple[Pair, Pair]]:
    window, around = pair(window), pair(padding)
    stride = window if stride is None else pair(stride)
    check_image(x, "pooling")
    check_positive("pooling", window=window, stride=stride)
    pads = []
    for size, k, s, p in zip(x.shape[1:3], window, stride, around):
        if not 0 <= p <= k // 2:
            raise ModelError(f"pooling: padding={p} must be 0 to half the window of {k}, or windows hold no pixel")
        if size + 2 * p < k and not ceil_mode:
            raise ModelError(f"pooling: a window of {k} does not fit {size} pixels with padding={p}")
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
