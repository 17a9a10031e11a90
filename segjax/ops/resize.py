"""Resizing with one static matrix an axis: `jax.image.resize` is slower to train and gathers the image under row
sharding as well."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.geometry import Pair


def resize(x: jax.Array, size: Pair, method: str = "bilinear", align_corners: bool = False) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C], equal to `torch.nn.functional.interpolate` without antialiasing.

    Args:
      x: floating for bilinear, any dtype for nearest; the dtype stays.
      size: (rows, columns) of the result, static.
      method: `"bilinear"` or `"nearest"` (the pixel at floor(index * in / out)).
      align_corners: corner pixels coincide, rather than the images' edges (bilinear only).

    Raises:
      ModelError: another method.
    """
    if method == "nearest":
        return _nearest(_nearest(x, 1, size[0]), 2, size[1])
    if method != "bilinear":
        raise ModelError(f"resize method {method!r} is unknown: use 'bilinear' or 'nearest'")
    # Rows first: measured faster than columns first.
    for axis, equation in ((1, "oi,bihc->bohc"), (2, "oi,bhic->bhoc")):
        before, after = x.shape[axis], size[axis - 1]
        if before != after:
            matrix = jnp.asarray(bilinear_matrix(before, after, align_corners), x.dtype)
            # A reduced-precision product would round every pixel of a float32 image to bfloat16 (TPU) or TF32 (GPU).
            exact = lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
            x = jnp.einsum(equation, matrix, x, precision=exact, preferred_element_type=jnp.float32).astype(x.dtype)
    return x


def bilinear_matrix(before: int, after: int, align_corners: bool = False) -> np.ndarray:
    """float32 [after, before]: row i holds the weights of the source pixels in output pixel i."""
    out = np.arange(after)
    if align_corners:
        source = out * ((before - 1) / max(after - 1, 1))
    else:
        source = np.maximum((out + 0.5) * (before / after) - 0.5, 0)
    low = np.minimum(source.astype(int), before - 1)
    share = np.minimum(source - low, 1.0)
    matrix = np.zeros((after, before), np.float64)
    matrix[out, low] += 1 - share
    matrix[out, np.minimum(low + 1, before - 1)] += share
    return matrix.astype(np.float32)


def _nearest(x: jax.Array, axis: int, after: int) -> jax.Array:
    before = x.shape[axis]
    if after % before == 0:  # a broadcast, local to each shard of rows
        return jnp.repeat(x, after // before, axis=axis)
    if before % after == 0:
        return lax.slice_in_dim(x, 0, before, before // after, axis)
    # float32, because PyTorch's index is: a float64 one differs where the product is a whole number but for rounding.
    index = np.floor(np.arange(after, dtype=np.float32) * np.float32(before / after)).astype(int)
    return jnp.take(x, np.minimum(index, before - 1), axis=axis)
