"""Batch normalisation as two functions: statistics in float32, and the affine map they give."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.ambient import mapped_batch
from segjax.ops.precision import widen

# Values of a channel up to which a second pass over them costs nothing that matters.
_FEW = 4096


def batch_moments(x: jax.Array, mask: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Mean and (biased) variance of each channel of [B, ..., C], both float32 [C].

    One pass over the image: E[x^2] - E[x]^2, clipped at zero because the difference of two near numbers may fall below.
    Two passes over few values, such as an image's means, which often lie so close together that nothing would be left
    of that difference. The statistics are those of the global batch: under a mesh by themselves, under `pmap` by a
    mean over the devices.

    Args:
      x: [B, ..., C].
      mask: bool [B, ...], the positions that count; None: all. Where none does, both moments are 0.
    """
    wide = widen(x)
    axes, mapped = tuple(range(x.ndim - 1)), mapped_batch()

    def mean_of(values: jax.Array) -> jax.Array:
        if mask is not None:
            sums = jnp.where(mask[..., None], values, 0).sum(axis=axes), mask.sum(dtype=values.dtype)
            total, count = lax.psum(sums, mapped) if mapped else sums
            return total / jnp.maximum(count, 1)
        local = jnp.mean(values, axis=axes)
        return lax.pmean(local, mapped) if mapped else local

    mean = mean_of(wide)
    if x.size // x.shape[-1] <= _FEW:
        return mean, mean_of(jnp.square(wide - mean))
    return mean, jnp.maximum(mean_of(jnp.square(wide)) - jnp.square(mean), 0.0)


def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, mean: jax.Array, var: jax.Array, eps: float = 1e-5
) -> jax.Array:
    """(x - mean) / sqrt(var + eps) * scale + bias, computed in float32, returned in x's dtype.

    Args:
      x: [..., C].
      scale, bias, mean, var: float32 [C].
      eps: added to the variance.
    """
    gain = scale * lax.rsqrt(var + eps)
    return (x * gain + (bias - mean * gain)).astype(x.dtype)
