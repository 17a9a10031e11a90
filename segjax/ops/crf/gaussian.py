"""The smoothness kernel on the pixel grid: a Gaussian of position is a product of two one-dimensional ones, so it is
filtered exactly along one axis after the other, and so is its normalisation."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.crf.features import check_bandwidth

# exp(-4.5^2 / 2) = 4e-5: what is cut off is 7e-6 of the mass.
TRUNCATE = 4.5
_TILE = 64
_MOST_TAPS = 32


def gaussian_filter(
    values: jax.Array,
    theta: float | jax.Array,
    truncate: float | None = TRUNCATE,
    *,
    normalization: Literal["symmetric", "before", "after", "none"] = "none",
) -> jax.Array:
    """out_p = sum_q exp(-|p - q|^2 / (2 theta^2)) v_q over the pixels of [..., H, W, C], the term q = p included.

    Args:
      values: [..., H, W, C] floating; pixels outside count as absent.
      theta: standard deviation in pixels. A traced one is differentiable, and filters without truncation.
      truncate: in standard deviations and along each axis; None for never.
      normalization: by n = K 1, see `build_filter`.

    Returns:
      the same shape and dtype.

    Raises:
      ModelError: theta is not positive.
    """
    check_bandwidth("theta", theta)
    traced = isinstance(theta, jax.core.Tracer)
    radius = None if traced or truncate is None else max(1, math.ceil(truncate * float(theta)))
    *lead, height, width, channels = values.shape
    rows, columns = (_Band.of(size, theta, radius, normalization) for size in (width, height))
    along = lambda v: _product(rows, v)  # noqa: E731
    if radius is not None and rows.radius <= _MOST_TAPS:
        # A band times a row has as few columns as there are channels: a CPU is faster at adding shifted rows.
        values = lax.platform_dependent(values, cpu=lambda v: _shift(rows, v), default=along)
    else:
        values = along(values)
    return _product(columns, values.reshape(*lead, height, width * channels)).reshape(*lead, height, width, channels)


class _Band(NamedTuple):
    """One axis: out_i = after_i sum_j exp(-(i - j)^2 / (2 theta^2)) before_j v_j over |i - j| <= radius."""

    theta: float | jax.Array
    radius: int
    before: np.ndarray | jax.Array
    after: np.ndarray | jax.Array

    @classmethod
    def of(cls, size: int, theta: float | jax.Array, radius: int | None, normalization: str) -> _Band:
        radius = size if radius is None else min(radius, size)
        one = np.ones(size)
        total = cls(theta, radius, one, one).block(0, size, 0, size).sum(1)
        power = {"symmetric": (0.5, 0.5), "before": (1, 0), "after": (0, 1), "none": (0, 0)}[normalization]
        return cls(theta, radius, *(total**-p for p in power))

    def block(self, start: int, stop: int, low: int, high: int) -> np.ndarray | jax.Array:
        """Rows start..stop, columns low..high of the matrix."""
        xp = jnp if isinstance(self.theta, jax.Array) else np
        offset = np.arange(start, stop)[:, None] - np.arange(low, high)
        kernel = xp.where(abs(offset) <= self.radius, xp.exp(-0.5 * (offset / self.theta) ** 2), 0.0)
        return self.after[start:stop, None] * kernel * self.before[low:high]


def _product(band: _Band, values: jax.Array) -> jax.Array:
    """The band times [..., N, K], in tiles."""
    size = values.shape[-2]
    step = max(_TILE, 2 * band.radius)
    # A reduced-precision product would round every probability to bfloat16 (TPU) or TF32 (GPU).
    exact = lax.Precision.HIGHEST if values.dtype != jnp.bfloat16 else None
    pieces = []
    for start in range(0, size, step):
        stop = min(size, start + step)
        low, high = max(0, start - band.radius), min(size, stop + band.radius)
        matrix = jnp.asarray(band.block(start, stop, low, high), values.dtype)
        pieces.append(jnp.matmul(matrix, lax.slice_in_dim(values, low, high, axis=-2), precision=exact))
    return jnp.concatenate(pieces, -2) if len(pieces) > 1 else pieces[0]


def _shift(band: _Band, values: jax.Array) -> jax.Array:
    """The band times the rows of [..., N, C], as a sum of shifted rows; a row at a time stays in the cache."""
    size, channels = values.shape[-2:]
    taps = [math.exp(-0.5 * (k / band.theta) ** 2) for k in range(band.radius + 1)]
    before, after = (jnp.asarray(np.repeat(scale, channels), values.dtype) for scale in (band.before, band.after))

    def filter_row(row):
        row = row * before
        around = jnp.pad(row, band.radius * channels)
        at = [lax.slice_in_dim(around, k * channels, (k + size) * channels) for k in range(2 * band.radius + 1)]
        r = band.radius
        return (row + sum(taps[k] * (at[r - k] + at[r + k]) for k in range(1, r + 1))) * after

    return lax.map(filter_row, values.reshape(-1, size * channels)).reshape(values.shape)
