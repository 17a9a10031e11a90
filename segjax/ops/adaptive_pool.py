"""Pooling to a given number of bins, whatever the image's size: pyramids, strips, the whole image.

Bin i of n covers the pixels floor(i * size / n) .. ceil((i + 1) * size / n) - 1, as in PyTorch: where n does not divide
the size, neighbouring bins share a pixel.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError
from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair
from segjax.ops.halo import map_rows
from segjax.ops.linear_map import along_axis
from segjax.ops.precision import wide_type

Bins = int | None | tuple[int | None, int | None]


def adaptive_avg_pool(x: jax.Array, bins: Bins) -> jax.Array:
    """The mean of each bin, equal to `torch.nn.functional.adaptive_avg_pool2d`; one static matrix an axis.

    Args:
      x: [B, H, W, C], floating; means are taken in float32.
      bins: (rows, columns) of the result, or one number for both; None keeps that axis.

    Returns:
      [B, rows, columns, C] of x's dtype.

    Raises:
      ModelError: not an image, or bins that are not positive.
    """
    for axis, count in enumerate(_bins(x, bins), start=1):
        if count != x.shape[axis]:
            x = along_axis(bin_means(x.shape[axis], count), x, axis)
    return x


def adaptive_max_pool(x: jax.Array, bins: Bins) -> jax.Array:
    """The maximum of each bin, equal to `torch.nn.functional.adaptive_max_pool2d`; on a tie the gradient goes to the
    bin's first pixel. A NaN wins, and its gradient is zero. Arguments and errors as in `adaptive_avg_pool`.
    """
    # Columns before rows: of equal maxima the first row by row is then the leftmost of the first row that has one.
    rows, columns = _bins(x, bins)
    for axis, count in ((2, columns), (1, rows)):
        if count != x.shape[axis]:
            split = axis == 1 and row_shards() > 1
            x = _split_bin_maxima(x, count) if split else _bin_maxima(x, count, axis)
    return x


def bin_edges(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """int [count] each: the first pixel of every bin, and the one after its last."""
    index = np.arange(count)
    return index * size // count, -(-(index + 1) * size // count)


def bin_means(size: int, count: int) -> np.ndarray:
    """float32 [count, size]: row i averages the pixels of bin i."""
    inside = _membership(size, count)
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _membership(size: int, count: int) -> np.ndarray:
    """bool [count, size]: whether a pixel is in a bin."""
    first, last = bin_edges(size, count)
    pixel = np.arange(size)
    return (pixel >= first[:, None]) & (pixel < last[:, None])


# Written out, because the derivative of a gather is a scatter, which is slow on a CPU.
@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _bin_maxima(x: jax.Array, count: int, axis: int) -> jax.Array:
    return jnp.max(_by_bin(x, count, axis)[0], axis=axis + 1)


def _by_bin(x: jax.Array, count: int, axis: int) -> tuple[jax.Array, np.ndarray]:
    """The pixels of each bin, as two axes [count, widest] in place of one, -inf where a bin has fewer; and where it
    has them."""
    if x.shape[axis] % count == 0:
        parts = x.reshape(*x.shape[:axis], count, -1, *x.shape[axis + 1 :])
        return parts, np.ones((count, 1), bool).reshape(count, *[1] * (x.ndim - axis))
    first, last = bin_edges(x.shape[axis], count)
    pixel = first[:, None] + np.arange((last - first).max())
    inside = _onto(pixel < last[:, None], x, axis)
    parts = jnp.take(x, np.minimum(pixel, x.shape[axis] - 1), axis=axis)
    return jnp.where(inside, parts, jnp.asarray(-jnp.inf, x.dtype)), inside


def _bin_maxima_forward(x: jax.Array, count: int, axis: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    best = _bin_maxima(x, count, axis)
    return best, (x, best)


def _bin_maxima_backward(count: int, axis: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array):
    x, best = saved
    parts, inside = _by_bin(x, count, axis)
    widest = parts.shape[axis + 1]
    holds = (parts == jnp.expand_dims(best, axis + 1)) & inside
    place = jnp.min(jnp.where(holds, _onto(np.arange(widest)[None], x, axis), widest), axis=axis + 1)
    if x.shape[axis] % count == 0:
        hit = _onto(np.arange(widest)[None], x, axis) == jnp.expand_dims(place, axis + 1)
        return (jnp.where(hit, jnp.expand_dims(gradient, axis + 1), 0).reshape(x.shape),)
    # The bins that a pixel is in, turn by turn: one, or two where neighbours share it.
    size, member = x.shape[axis], _membership(x.shape[axis], count)
    turns = np.argsort(~member, axis=0, kind="stable")[: member.sum(0).max()]
    total = jnp.zeros(x.shape, wide_type(x.dtype))
    for own in turns:
        pixel = np.arange(size)
        within = np.where(member[own, pixel], pixel - bin_edges(size, count)[0][own], -1)
        hit = jnp.take(place, own, axis=axis) == _onto(within, x, axis)
        total = total + jnp.where(hit, jnp.take(gradient, own, axis=axis), 0)
    return (total.astype(x.dtype),)


_bin_maxima.defvjp(_bin_maxima_forward, _bin_maxima_backward)


def _onto(constant: np.ndarray, x: jax.Array, axis: int) -> np.ndarray:
    """`constant`, whose last axis stands for x's `axis`, shaped so that it broadcasts."""
    return constant.reshape(*constant.shape, *[1] * (x.ndim - 1 - axis))


def _split_bin_maxima(x: jax.Array, count: int) -> jax.Array:
    """`_bin_maxima` of row-split x: each device's maxima of every bin, -inf where it holds none of the bin, then the
    maxima of those; the devices exchange as many rows as there are bins."""
    shards = row_shards()
    held = -(-x.shape[1] // shards)
    first, last = bin_edges(x.shape[1], count)

    def body(part: jax.Array, shard: jax.Array) -> jax.Array:
        row = (shard * held + jnp.arange(held))[:, None, None]
        own = [jnp.where((row >= a) & (row < b), part, -jnp.inf) for a, b in zip(first, last)]
        return jnp.concatenate([_bin_maxima(pixels, 1, 1) for pixels in own], axis=1)

    def own_rows(begin: int, end: int) -> Pair:
        return begin // count * held, end // count * held

    batch, _, width, channels = x.shape
    best = map_rows(body, x, rows=shards * count, reads=own_rows)
    best = _bin_maxima(best.reshape(batch, shards, count * width, channels), 1, 1)
    return best.reshape(batch, count, width, channels)


def _bins(x: jax.Array, bins: Bins) -> Pair:
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ModelError(f"adaptive pooling takes a floating image [B, H, W, C]; got {x.dtype} {x.shape}")
    given = (bins, bins) if bins is None or isinstance(bins, int) else tuple(bins)
    if len(given) != 2 or any(count is not None and count < 1 for count in given):
        raise ModelError(f"adaptive pooling: bins={bins} must be positive, one number or (rows, columns)")
    rows, columns = (size if count is None else count for count, size in zip(given, x.shape[1:3]))
    return rows, columns
