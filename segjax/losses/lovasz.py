"""The Lovasz extension of the Jaccard loss, which both Lovasz losses are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def jaccard_extension(errors: jax.Array, foreground: jax.Array, counted: jax.Array) -> jax.Array:
    """The Lovasz extension of 1 - intersection / union at `errors`.

    Berman, Triki, Blaschko. The Lovasz-Softmax loss. CVPR 2018. arXiv:1705.08790, algorithm 1.

    It is piecewise linear: with the errors sorted downwards, each is multiplied by what the Jaccard loss gains when its
    pixel too counts as wrong. After i pixels, f of them foreground out of F, the intersection is I = F - f, the union
    U = F + i - f. A wrong foreground pixel adds 1 / U; a wrong background pixel I / (U (U - 1)), or 1 where it is the
    first and there is no foreground: closed forms, because the algorithm's difference of two Jaccard losses cancels.

    Two sorts, there and back, rather than a sort and a gather, whose gradient would be a scatter.

    Args:
      errors: float32 [..., N], anything at pixels that do not count.
      foreground: bool [..., N].
      counted: bool [..., N].

    Returns:
      float32 [...], 0 where no pixel counts.
    """
    axis = errors.ndim - 1
    place = lax.broadcasted_iota(jnp.int32, errors.shape, axis)
    downwards = lax.stop_gradient(jnp.where(counted, -errors, jnp.inf))
    hit = (foreground & counted).astype(jnp.int32)
    _, place, hit, known = lax.sort((downwards, place, hit, counted.astype(jnp.int32)), dimension=axis, num_keys=1)
    total = hit.sum(axis=axis, keepdims=True)
    found = jnp.cumsum(hit, axis=axis)
    intersection = (total - found).astype(jnp.float32)
    union = (total + jnp.cumsum(known, axis=axis) - found).astype(jnp.float32)
    first = (union == 1) & (total == 0)
    miss = jnp.where(first, 1.0, intersection / jnp.maximum(union, 1.0) / jnp.maximum(union - 1.0, 1.0))
    gain = jnp.where(known > 0, jnp.where(hit > 0, 1.0 / jnp.maximum(union, 1.0), miss), 0.0)
    _, gain = lax.sort((place, gain), dimension=axis, num_keys=1)
    return (jnp.where(counted, errors, 0.0) * gain).sum(axis=axis)
