"""The layer that ends a decoder of several resolutions: upsample, concatenate, mix, normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.nn.conv import he_normal
from segjax.nn.norm import BatchNorm
from segjax.ops.join import join


class JoinNorm(nn.Module):
    """`segjax.ops.join.join` (child `conv`), batch normalisation (`norm`), ReLU; called `(maps, train)`.

    [B, H_i, W_i, C_i] each -> [B, max H_i, max W_i, features]; parameters as of a `ConvNorm` of the concatenation.

    Attributes:
      features: channels of the result.
      use_bias: of the convolution.
      align_corners: of the upsampling.
      dtype: of the arithmetic and the result.
    """

    features: int
    use_bias: bool = False
    align_corners: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array], train: bool) -> jax.Array:
        x = _Join(self.features, self.use_bias, self.align_corners, self.dtype, name="conv")(maps)
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train))


class _Join(nn.Module):
    features: int
    use_bias: bool
    align_corners: bool
    dtype: Any

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> jax.Array:
        shape = (1, 1, sum(x.shape[-1] for x in maps), self.features)
        kernel = self.param("kernel", he_normal, shape, jnp.float32)
        y = join([x.astype(self.dtype) for x in maps], kernel.astype(self.dtype), align_corners=self.align_corners)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y
