"""The rectified sum at the end of a residual block."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.ops.formulation import formulation


def relu_of_sum(*parts: jax.Array) -> jax.Array:
    """max(sum of parts, 0), of one shape and dtype; NaN stays NaN, and 0 has the gradient 0.

    XLA's CPU compiler computes a maximum, and with it the sum below, again in everything that reads it: block after
    block, all sums since the stage began. A selection has two inputs of the image's size and is kept ("select").
    """
    total = sum(parts[1:], parts[0])
    if formulation("relu_of_sum") == "select":
        return jnp.where(total <= 0, 0, total)
    return jax.nn.relu(total)
