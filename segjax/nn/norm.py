"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.ops.norm import batch_moments, batch_norm


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015, arXiv:1502.03167) with float32 statistics.

    Parameters `scale`, `bias` and statistics `mean`, `var` (collection batch_stats), all float32 [C]. Training
    normalises with the batch's moments and moves the running ones, which evaluation uses. The running variance is the
    biased one.

    Attributes:
      momentum: the share of the old running value that is kept (PyTorch's momentum is 1 minus this).
      epsilon: added to the variance.
      dtype: of the result.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
        """`mask`, bool [B, ...]: the positions of x [B, ..., C] that the statistics are of; None: all."""
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if train:
            mean, var = batch_moments(x, mask)
            if not self.is_initializing():
                keep = self.momentum
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * var
        else:
            mean, var = running_mean.value, running_var.value
        return batch_norm(x, scale, bias, mean, var, self.epsilon).astype(self.dtype)
