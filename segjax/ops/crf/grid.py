"""Gaussian filtering on a dense grid over the feature space (Chen, Paris and Durand, Real-time edge-aware image
processing with the bilateral grid, SIGGRAPH 2007): static shapes, no search; for bandwidths that leave few cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# A point is spread over 2 cells an axis twice, in and out, which alone is a blur of variance 1/3 of a cell on average;
# the grid's own blur is a Gaussian of what is missing to one. In cells of one standard deviation.
_SPREAD = 1 / 3
_TAPS = 3


def grid_shape(extent: Sequence[float], cell: float) -> tuple[int, ...]:
    """Cells along each feature whose values span at most `extent`, counted in standard deviations."""
    return tuple(math.floor(span / cell + 1e-3) + 2 for span in extent)


def grid_filter(features: jax.Array, values: jax.Array, shape: tuple[int, ...], cell: float = 1.0) -> jax.Array:
    """sum_j exp(-|f_i - f_j|^2 / 2) v_j, approximately; symmetric, because the blur is separable and slicing is the
    transpose of splatting.

    Args:
      features: [B, N, d] in standard deviations; no gradient flows into them.
      values: [B, N, C] floating.
      shape: of the grid, see `grid_shape`. Cells start at each image's smallest features; a point beyond the last one
        makes the result NaN.
      cell: width of a cell, in standard deviations.
    """
    batch, points, d = features.shape
    channels = values.shape[-1]
    features = lax.stop_gradient(features)
    place = (features - features.min(1, keepdims=True)) / cell
    low = jnp.floor(place)
    share = place - low
    outside = ~jnp.all((place >= 0) & (low < np.array(shape) - 1))
    low = jnp.clip(low.astype(jnp.int32), 0, np.array(shape) - 2)
    strides = [math.prod(shape[i + 1 :]) for i in range(d)]
    start = sum(low[..., i] * s for i, s in enumerate(strides)) + jnp.arange(batch)[:, None] * math.prod(shape)
    corners = jnp.array(list(itertools.product((0, 1), repeat=d)))
    steps = corners @ jnp.array(strides)

    def weight(corner):
        out = jnp.ones((batch, points), values.dtype)
        for i in range(d):
            out = out * jnp.where(corner[i] == 1, share[..., i], 1 - share[..., i]).astype(values.dtype)
        return out[..., None]

    def splat(sums, corner):
        offsets, step = corner
        return sums.at[start + step].add(weight(offsets) * values, mode="promise_in_bounds"), None

    sums = lax.scan(splat, jnp.zeros((batch * math.prod(shape), channels), values.dtype), (corners, steps))[0]
    sums = sums.reshape(batch, *shape, channels)
    for axis in range(d):
        sums = _blur_axis(sums, axis + 1, cell)
    sums = sums.reshape(-1, channels)

    def gather(total, corner):
        offsets, step = corner
        return total + weight(offsets) * sums.at[start + step].get(mode="promise_in_bounds"), None

    out = lax.scan(gather, jnp.zeros_like(values), (corners, steps))[0]
    return jnp.where(outside, jnp.nan, out)


def _blur_axis(sums: jax.Array, axis: int, cell: float) -> jax.Array:
    reach = math.ceil(_TAPS / cell)
    offset = np.arange(-reach, reach + 1)
    variance = 1 / cell**2 - _SPREAD
    taps = np.exp(-0.5 * offset**2 / variance)
    # The continuous kernel's mass: a cell's sum stands for the cell's share of a Gaussian of unit height.
    taps *= math.sqrt(2 * math.pi) / (cell * taps.sum())
    around = [(0, 0)] * sums.ndim
    around[axis] = (reach, reach)
    padded = jnp.pad(sums, around)
    size = sums.shape[axis]
    return sum(float(t) * lax.slice_in_dim(padded, i, i + size, axis=axis) for i, t in enumerate(taps))
