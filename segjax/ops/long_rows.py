"""Convolution of stride 1 with a kernel of one row, one column or one point, over rows joined end to end.

XLA's CPU compiler gives convolutions to YNNPACK, which cuts a row of the result, its pixels by its features, into tiles
and lets the cores share those; rows and images follow one after the other. (jaxlib 0.10.2; `choose_split_factors` in
google/XNNPACK, ynnpack/subgraph/dot.cc: of a 3x1 kernel, 512 pixels by 64 features are one tile.) Most rows are a
single tile, for a single core. All rows of an image as one are many tiles of the same products.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import lax

from segjax.ops.border import border
from segjax.ops.geometry import Pair

_NHWC = ("NHWC", "HWIO", "NHWC")


def suits(kernel: Sequence[int], stride: Pair) -> bool:
    """Whether a kernel [kh, kw, C, features] can be applied so."""
    return stride == (1, 1) and 1 in kernel[:2]


def convolve(x: jax.Array, kernel: jax.Array, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """x [B, H, W, C] with a kernel [kh, kw, C, features], where `suits` -> [B, H', W', features]."""
    if kernel.shape[0] == 1:
        return _row(border(x, *pads), kernel, rate[1])
    return _column(border(x, (0, 0), pads[1]), kernel, rate[0], pads[0])


def _row(x: jax.Array, kernel: jax.Array, rate: int) -> jax.Array:
    """Where a tap sees the next row, the pixel is not kept."""
    beyond = (kernel.shape[1] - 1) * rate
    y = _along(x, kernel, rate, (0, beyond)).reshape(*x.shape[:3], -1)
    return y[:, :, : x.shape[2] - beyond]


def _column(x: jax.Array, kernel: jax.Array, rate: int, pads: Pair) -> jax.Array:
    """Taps are whole rows apart."""
    width = x.shape[2]
    y = _along(x, kernel.swapaxes(0, 1), rate * width, (pads[0] * width, pads[1] * width))
    return y.reshape(len(x), -1, width, y.shape[-1])


def _along(x: jax.Array, kernel: jax.Array, rate: int, pads: Pair) -> jax.Array:
    """A kernel [1, taps, C, features] along the joined rows of x."""
    joined = x.reshape(len(x), 1, -1, x.shape[-1])
    return lax.conv_general_dilated(
        joined, kernel, (1, 1), ((0, 0), pads), rhs_dilation=(1, rate), dimension_numbers=_NHWC
    )
