"""Resizing with one static matrix an axis: `jax.image.resize` is slower to train and gathers the image under row
sharding as well."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError, suggest
from segjax.ops.ambient import row_shards
from segjax.ops.geometry import Pair
from segjax.ops.halo import take_rows
from segjax.ops.linear_map import along_axis

METHODS = ("nearest", "nearest-exact", "bilinear", "bicubic")


def resize(
    x: jax.Array,
    size: Pair | None = None,
    method: str = "bilinear",
    align_corners: bool = False,
    *,
    antialias: bool = False,
    scale: float | tuple[float, float] | None = None,
) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C], equal to `torch.nn.functional.interpolate`.

    Args:
      x: floating for bilinear and bicubic, any dtype for nearest; the dtype stays.
      size: (rows, columns) of the result, static.
      method: `"bilinear"`; `"bicubic"` (Keys, Cubic convolution interpolation, IEEE TASSP 1981, equation 4, with
        a = -0.75, and -0.5 when antialiasing, as PyTorch has them); `"nearest"`, the pixel at floor(i * in / out);
        `"nearest-exact"`, the pixel at floor((i + 0.5) * in / out), which Pillow and scikit-image take.
      align_corners: corner pixels coincide, rather than the images' edges (not for nearest).
      antialias: shrinking widens the filter to the output pixel's footprint (not for nearest).
      scale: the enlargement instead of `size`: the result has floor(n * scale) pixels and its grid has steps of
        exactly 1 / scale, which is PyTorch's `scale_factor`; `size` takes steps of in / out.

    Raises:
      ModelError: another method, a combination it does not have, a size or scale that is not positive, an integer
        image where it has to be interpolated, neither or both of `size` and `scale`.
    """
    if x.ndim != 4:
        raise ModelError(f"resize takes an image [B, H, W, C]; got the shape {x.shape}")
    if method not in METHODS:
        raise ModelError(f"resize method {method!r} is unknown.{suggest(method, METHODS)}")
    if method.startswith("nearest") and (align_corners or antialias):
        raise ModelError(f"resize method {method!r} has neither align_corners nor antialias; leave them out")
    if not method.startswith("nearest") and not jnp.issubdtype(x.dtype, jnp.floating):
        raise ModelError(f"resize method {method!r} needs a floating image, got {x.dtype}; use 'nearest' for labels")
    size, steps = _geometry(x.shape[1:3], size, scale)
    # Columns while there are few rows, for the product along the rows is the faster one for its size; where rows are
    # split, rows while they are short, for they are sent.
    axes = [(1, size[0], steps[0]), (2, size[1], steps[1])]
    columns_first = size[0] >= x.shape[1] and row_shards() == 1
    for axis, after, step in axes[::-1] if columns_first else axes:
        if method.startswith("nearest"):
            x = _nearest(x, axis, after, step, method == "nearest-exact")
        else:
            matrix = resize_matrix(x.shape[axis], after, method, align_corners, antialias=antialias, step=step)
            x = x if _is_identity(matrix) else along_axis(matrix, x, axis)
    return x


def resize_matrix(
    before: int,
    after: int,
    method: str = "bilinear",
    align_corners: bool = False,
    *,
    antialias: bool = False,
    step: float | None = None,
) -> np.ndarray:
    """float32 [after, before]: row i holds the weights of the source pixels in output pixel i.

    `step` is the distance of two output pixels in source pixels, before / after when left out; `align_corners` sets
    it to (before - 1) / (after - 1) in any case.
    """
    step = before / after if step is None else step
    if align_corners:
        step = (before - 1) / (after - 1) if after > 1 else 0.0
    elif before == after and (method == "bilinear" or antialias):
        step = 1.0  # PyTorch copies an axis whose size stays, whatever the scale
    if antialias:
        return _footprints(before, after, method, step)
    source = step * np.arange(after) if align_corners else step * (np.arange(after) + 0.5) - 0.5
    if method == "bilinear":
        source, first, kernel = np.maximum(source, 0.0), 0, _triangle
    else:
        first, kernel = -1, lambda distance: _keys(distance, -0.75)
    low = np.minimum(np.floor(source), before - 1)
    share = np.clip(source - low, 0.0, 1.0)
    matrix = np.zeros((after, before))
    for tap in range(first, 2 - first):
        # A tap beyond the border reads the border's pixel.
        column = np.clip(low + tap, 0, before - 1).astype(int)
        np.add.at(matrix, (np.arange(after), column), kernel(np.abs(tap - share)))
    return matrix.astype(np.float32)


def _footprints(before: int, after: int, method: str, step: float) -> np.ndarray:
    """Antialiased: the kernel stretched over the output pixel's footprint, cut at the border and normalised."""
    stretch = max(step, 1.0)
    kernel, reach = (_triangle, 1.0) if method == "bilinear" else (lambda distance: _keys(distance, -0.5), 2.0)
    centre = step * (np.arange(after) + 0.5)
    first = np.maximum(np.trunc(centre - reach * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centre + reach * stretch + 0.5), before)
    pixel = np.arange(before)
    weights = kernel(np.abs(pixel + 0.5 - centre[:, None]) / stretch)
    weights = np.where((pixel >= first[:, None]) & (pixel < last[:, None]), weights, 0.0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - distance, 0.0)


def _keys(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel at distances >= 0."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _geometry(before: Pair, size: Pair | None, scale) -> tuple[Pair, tuple[float, float]]:
    """The result's size, and the distance of its pixels in source pixels."""
    if (size is None) == (scale is None):
        raise ModelError(f"resize takes either size or scale; got size={size} and scale={scale}")
    if size is not None:
        if len(size) != 2 or min(size) < 1:
            raise ModelError(f"resize: size={tuple(size)} must be two positive numbers")
        return (size[0], size[1]), (before[0] / size[0], before[1] / size[1])
    scale = (scale, scale) if np.ndim(scale) == 0 else tuple(scale)
    if len(scale) != 2 or not all(s > 0 and math.floor(n * s) >= 1 for n, s in zip(before, scale)):
        raise ModelError(f"resize: scale={scale} leaves nothing of {before[0]}x{before[1]}; each must give a pixel")
    return (math.floor(before[0] * scale[0]), math.floor(before[1] * scale[1])), (1 / scale[0], 1 / scale[1])


def _is_identity(matrix: np.ndarray) -> bool:
    return matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix), dtype=matrix.dtype))


def _nearest(x: jax.Array, axis: int, after: int, step: float, exact: bool) -> jax.Array:
    before = x.shape[axis]
    index = nearest_index(before, after, exact, step)
    shards = row_shards() if axis == 1 else 1
    if before >= shards and (before % shards or after % shards):
        return take_rows(x, index)
    if after % before == 0 and np.array_equal(index, np.arange(after) // (after // before)):
        return jnp.repeat(x, after // before, axis=axis)  # a broadcast, local to each shard of rows
    if before % after == 0 and np.array_equal(index, np.arange(after) * (before // after) + index[0]):
        return lax.slice_in_dim(x, index[0], before, before // after, axis)
    return take_rows(x, index) if shards > 1 else jnp.take(x, index, axis=axis)


def nearest_index(before: int, after: int, exact: bool = False, step: float | None = None) -> np.ndarray:
    """int [after]: the source pixel of each output pixel; `step` as in `resize_matrix`."""
    if step is None or (after in (before, 2 * before) and not exact):
        step = before / after  # whatever the scale: PyTorch has a shortcut for the same and for the double size
    # float32, because PyTorch's index is: a float64 one differs where the product is a whole number but for rounding.
    place, step, half = np.arange(after, dtype=np.float32), np.float32(step), np.float32(0.5)
    source = np.maximum((place + half) * step - half, 0) + half if exact else place * step
    return np.minimum(np.floor(source).astype(int), before - 1)
