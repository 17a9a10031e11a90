"""Transformer layers: attention over all positions of an image, or of a sequence of patches."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.nn.conv import Conv

# Statistics are float32 whatever the dtype; the one-pass variance would cancel where the mean is large.
LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.truncated_normal(0.02))


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762, section
    3.2), with its softmax in float32.

    [B, N, C] or, over the pixels of a map, [B, H, W, C] -> the same shape. Children `query`, `key`, `value`,
    `project`. A key's bias moves all scores of a query alike, so that its gradient is zero; checkpoints have it.

    Attributes:
      heads: C / heads channels each.
      reduction: R; for R > 1 keys and values come from the map shrunk by an R x R convolution of stride R (`reduce`)
        and a layer normalisation (`reduce_norm`): Wang et al., Pyramid vision transformer, ICCV 2021,
        arXiv:2102.12122, section 3.3. Scores are then HW x HW / R^2.
      dtype: of the arithmetic.
    """

    heads: int
    reduction: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        if channels % self.heads:
            raise ModelError(f"Attention: heads={self.heads} does not divide {channels} channels: take a divisor.")

        def split(x: jax.Array, name: str) -> jax.Array:
            x = Dense(channels, dtype=self.dtype, name=name)(x)
            return x.reshape(len(x), -1, self.heads, channels // self.heads)

        context = x
        if self.reduction > 1:
            window = {"stride": self.reduction, "padding": "valid", "dtype": self.dtype}
            context = Conv(channels, self.reduction, **window, name="reduce")(x)
            context = LayerNorm(epsilon=1e-5, dtype=self.dtype, name="reduce_norm")(context)
        y = jax.nn.dot_product_attention(split(x, "query"), split(context, "key"), split(context, "value"))
        return Dense(channels, dtype=self.dtype, name="project")(y.reshape(x.shape))


class MLP(nn.Module):
    """Two dense layers (`expand`, `contract`) with an exact GELU between them, of every position alike.

    [B, ..., C] -> the same shape.

    Attributes:
      ratio: hidden channels over C.
      mix: a depthwise 3x3 convolution (`depthwise`) before the GELU, which tells a map's positions apart: the Mix-FFN
        of Xie et al., SegFormer, NeurIPS 2021, arXiv:2105.15203, equation 3. Needs [B, H, W, C].
      dtype: of the arithmetic.
    """

    ratio: int = 4
    mix: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels, hidden = x.shape[-1], x.shape[-1] * self.ratio
        x = Dense(hidden, dtype=self.dtype, name="expand")(x)
        if self.mix:
            x = Conv(hidden, 3, groups=hidden, dtype=self.dtype, name="depthwise")(x)
        return Dense(channels, dtype=self.dtype, name="contract")(nn.gelu(x, approximate=False))


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)); called `(x, train)`, the shape stays.

    Children `norm1`, `attention`, `norm2`, `mlp`.

    Attributes:
      heads, reduction: as in `Attention`.
      ratio, mix: as in `MLP`.
      drop_path: probability with which training leaves out a branch, image by image (Huang et al., Deep networks with
        stochastic depth, ECCV 2016, arXiv:1603.09382). Draws from the rng "dropout".
      dtype: of the arithmetic.
    """

    heads: int
    reduction: int = 1
    ratio: int = 4
    mix: bool = False
    drop_path: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        branches = (
            ("norm1", Attention(self.heads, self.reduction, self.dtype, name="attention")),
            ("norm2", MLP(self.ratio, self.mix, self.dtype, name="mlp")),
        )
        for norm, branch in branches:
            y = branch(LayerNorm(dtype=self.dtype, name=norm)(x))
            x = x + nn.Dropout(self.drop_path, broadcast_dims=range(1, x.ndim), deterministic=not train)(y)
        return x
