"""The smoothness kernel on the pixel grid: a Gaussian of position is a product of two one-dimensional ones, so one
banded matrix product an axis filters it exactly, on any backend."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.crf.features import check_bandwidth

# exp(-4.5^2 / 2) = 4e-5: what is cut off is 7e-6 of the mass.
TRUNCATE = 4.5
_TILE = 64


def gaussian_filter(values: jax.Array, theta: float | jax.Array, truncate: float | None = TRUNCATE) -> jax.Array:
    """out_p = sum_q exp(-|p - q|^2 / (2 theta^2)) v_q over the pixels of [..., H, W, C], the term q = p included.

    Args:
      values: [..., H, W, C] floating; pixels outside count as absent.
      theta: standard deviation in pixels. A traced one is differentiable, and filters without truncation.
      truncate: in standard deviations and along each axis; None for never.

    Returns:
      the same shape and dtype.

    Raises:
      ModelError: theta is not positive.
    """
    check_bandwidth("theta", theta)
    traced = isinstance(theta, jax.core.Tracer)
    radius = None if traced or truncate is None else max(1, math.ceil(truncate * float(theta)))
    for axis in (-3, -2):
        values = _filter_axis(values, theta, axis, radius)
    return values


def _filter_axis(values: jax.Array, theta: float | jax.Array, axis: int, radius: int | None) -> jax.Array:
    size = values.shape[axis]
    radius = size if radius is None else min(radius, size)
    step = max(_TILE, 2 * radius)
    xp = jnp if isinstance(theta, jax.Array) else np
    equation = "oi,...iwc->...owc" if axis == -3 else "oi,...ic->...oc"
    # A reduced-precision product would round every probability to bfloat16 (TPU) or TF32 (GPU).
    exact = lax.Precision.HIGHEST if values.dtype != jnp.bfloat16 else None
    pieces = []
    for start in range(0, size, step):
        stop = min(size, start + step)
        low, high = max(0, start - radius), min(size, stop + radius)
        offset = np.arange(start, stop)[:, None] - np.arange(low, high)
        # Pairs of one tile beyond the radius are dropped as those across tiles are, which keeps the filter symmetric.
        matrix = xp.where(abs(offset) <= radius, xp.exp(-0.5 * (offset / theta) ** 2), 0.0)
        source = lax.slice_in_dim(values, low, high, axis=values.ndim + axis)
        pieces.append(jnp.einsum(equation, jnp.asarray(matrix, values.dtype), source, precision=exact))
    return jnp.concatenate(pieces, axis) if len(pieces) > 1 else pieces[0]
