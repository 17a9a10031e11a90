"""Activations with parameters."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp


class PReLU(nn.Module):
    """max(x, 0) + slope * min(x, 0), the slope learned from 0.25 on (He et al., ICCV 2015, arXiv:1502.01852).

    Attributes:
      per_channel: one slope a channel, parameter `slope` [C]; else a single one, [].
    """

    per_channel: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],) if self.per_channel else ()
        slope = self.param("slope", nn.initializers.constant(0.25), shape, jnp.float32)
        return jnp.where(x > 0, x, slope.astype(x.dtype) * x)
