"""Convolution of stride 1 by Winograd's minimal filtering F(4, 3): 6 products for 4 outputs of 3 taps instead of 12.

A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.3, along each axis that
has 3 taps; along one with a single tap nothing changes. 36 products stand for 144 in a 3x3 kernel, 6 for 12 in a 3x1
one, and the kernel's gradient saves as many. The price is rounding, near 1e-5 of the largest output in float32, and
transforms, which pay when the products are wide.

An atrous kernel sees images of every rate-th pixel; each is filtered as a dense one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.ops.border import border
from segjax.ops.geometry import Pair

# Transforms of input, kernel and output by taps; of 3, the interpolation points are 0, 1, -1, 2, -2 and infinity.
_INPUT = {
    1: np.eye(1),
    3: np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
}
_KERNEL = {
    1: np.eye(1),
    3: np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
}
_OUTPUT = {
    1: np.eye(1),
    3: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
}
# Of the pixels that whole tiles cover to those of the result, at most.
_WASTE = 1.5


@dataclasses.dataclass(frozen=True)
class _Axis:
    """The tiles along rows or columns: the result's pixels in `tiles` of `step` for each of `rate` phases."""

    taps: int
    rate: int
    before: int
    outputs: int

    @property
    def step(self) -> int:
        return len(_OUTPUT[self.taps])

    @property
    def tiles(self) -> int:
        return -(-self.outputs // (self.step * self.rate))

    @property
    def whole(self) -> int:
        """Pixels that the tiles of the result cover."""
        return self.tiles * self.step * self.rate

    @property
    def seen(self) -> int:
        """Tiles of the image that those of the result see."""
        return self.tiles + (self.taps > 1)


def suits(shape: Sequence[int], kernel: Sequence[int], stride: Pair, rate: Pair, pads: tuple[Pair, Pair]) -> bool:
    """Whether an image [B, H, W, C] and a kernel [kh, kw, C, features] can be filtered so: 3x3, 3x1 or 1x3 taps, stride
    1, and a result (the image's gradient too) that fills its tiles."""
    if stride != (1, 1) or not {1, 3} >= set(kernel[:2]) or max(kernel[:2]) == 1:
        return False
    axes = _axes(shape, kernel[:2], rate, pads)
    filled = math.prod(min(axis.outputs, size) for axis, size in zip(axes, shape[1:]))
    return math.prod(axis.whole for axis in axes) <= _WASTE * filled


def convolve(x: jax.Array, kernel: jax.Array, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """x [B, H, W, C] with a kernel [kh, kw, C, features], where `suits` -> [B, H', W', features]."""
    rows, columns = axes = _axes(x.shape, kernel.shape[:2], rate, pads)
    factors = _apply(_both(_KERNEL, axes), kernel.reshape(-1, *kernel.shape[2:]))
    products = lax.dot_general(_tiles(x, rows, columns), factors, (((2,), (1,)), ((0,), (0,))))
    parts = _apply(_both(_OUTPUT, axes), products)
    parts = parts.reshape(rows.step, columns.step, len(x), rows.tiles, rows.rate, columns.tiles, columns.rate, -1)
    whole = parts.transpose(2, 3, 0, 4, 5, 1, 6, 7).reshape(len(x), rows.whole, columns.whole, -1)
    return whole[:, : rows.outputs, : columns.outputs]


def kernel_gradient(x: jax.Array, gradient: jax.Array, taps: Pair, rate: Pair, pads: tuple[Pair, Pair]) -> jax.Array:
    """Of `convolve`'s result by its kernel: x [B, H, W, C], gradient [B, H', W', features] -> [kh, kw, C, features]."""
    features = gradient.shape[3]
    rows, columns = axes = _axes(x.shape, taps, rate, pads)
    rest = (rows.whole - rows.outputs, columns.whole - columns.outputs)
    parts = jnp.pad(gradient, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))
    parts = parts.reshape(len(x), rows.tiles, rows.step, rows.rate, columns.tiles, columns.step, columns.rate, features)
    parts = parts.transpose(2, 5, 0, 1, 3, 4, 6, 7).reshape(rows.step * columns.step, -1, features)
    parts = _apply(_both(_OUTPUT, axes).T, parts)
    factors = lax.dot_general(_tiles(x, rows, columns), parts, (((1,), (1,)), ((0,), (0,))))
    return _apply(_both(_KERNEL, axes).T, factors).reshape(*taps, -1, features)


def _axes(shape: Sequence[int], taps: Sequence[int], rate: Pair, pads: tuple[Pair, Pair]) -> tuple[_Axis, _Axis]:
    rows, columns = (
        _Axis(k, r, before, size + before + after - (k - 1) * r)
        for size, k, r, (before, after) in zip(shape[1:3], taps, rate, pads)
    )
    return rows, columns


def _both(transforms: Mapping[int, np.ndarray], axes: tuple[_Axis, _Axis]) -> np.ndarray:
    """The transform of rows and columns at once."""
    return np.kron(*(transforms[axis.taps] for axis in axes))


def _apply(matrix: np.ndarray, parts: jax.Array) -> jax.Array:
    """[m, n] of [n, ...] -> [m, ...]."""
    flat = jnp.asarray(matrix, parts.dtype) @ parts.reshape(len(parts), -1)
    return flat.reshape(-1, *parts.shape[1:])


def _tiles(x: jax.Array, rows: _Axis, columns: _Axis) -> jax.Array:
    """The transformed tiles of an image, [n, pixels, C]."""
    around = [
        (axis.before, axis.seen * axis.step * axis.rate - size - axis.before)
        for axis, size in zip((rows, columns), x.shape[1:3])
    ]
    x = border(x, *around)
    x = x.reshape(len(x), rows.seen, rows.step, rows.rate, columns.seen, columns.step, columns.rate, x.shape[3])
    parts = _combine(_INPUT[rows.taps], [x[:, t : t + rows.tiles, i] for t, i in _places(rows)])
    # Fused, every column of tiles would be summed anew for each of its rows.
    x = lax.optimization_barrier(jnp.stack(parts))
    parts = [x[:, :, :, :, t : t + columns.tiles, i] for t, i in _places(columns)]
    x = jnp.stack(_combine(_INPUT[columns.taps], parts), axis=1)
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _places(axis: _Axis) -> list[tuple[int, int]]:
    """(tile, pixel in it) of every pixel that a tile of the result sees."""
    return [divmod(i, axis.step) for i in range(len(_INPUT[axis.taps]))]


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Sums of the parts by rows of a sparse matrix."""
    return [sum(float(factor) * part for factor, part in zip(row, parts) if factor) for row in matrix]
