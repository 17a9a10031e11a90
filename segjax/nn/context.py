"""Layers that gather context from the whole image or from several rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.nn.conv import ConvNorm, SeparableConv
from segjax.ops.pooling import global_avg_pool


class ImagePooling(nn.Module):
    """The image's mean through a 1x1 ConvNorm (child `conv_norm`), repeated at every pixel: [B, H, W, C] ->
    [B, H, W, features]; called `(x, train)`. In training its normalisation sees one value an image: a batch of
    one image leaves only the offset."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        pooled = ConvNorm(self.features, 1, dtype=self.dtype, name="conv_norm")(global_avg_pool(x), train)
        return jnp.broadcast_to(pooled, (*x.shape[:3], self.features))


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., Rethinking atrous convolution for semantic image segmentation, 2017,
    arXiv:1706.05587, section 3.3): a 1x1 convolution, one 3x3 a rate, the image's mean, joined by a 1x1 projection.

    [B, H, W, C] -> [B, H, W, features]; called `(x, train)`; children `point`, `rate_R`, `pool`, `project`. Dropout
    draws from the rng "dropout".

    Attributes:
      features: channels of each branch and of the result.
      rates: of the 3x3 convolutions, in pixels.
      separable: the 3x3 convolutions are depthwise separable (DeepLabV3+).
      dropout: probability, after the projection.
      norm_between: of the separable convolutions, see `SeparableConv`.
      project_size: kernel size of the projection; 1 in the paper, 3 in mmsegmentation.
      dtype: of the arithmetic.
    """

    features: int
    rates: Sequence[int]
    separable: bool = False
    dropout: float = 0.1
    dtype: Any = jnp.float32
    norm_between: bool = False
    project_size: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        branches = [ConvNorm(self.features, 1, dtype=self.dtype, name="point")(x, train)]
        for rate in self.rates:
            if self.separable:
                branch = SeparableConv(
                    self.features, 3, rate, dtype=self.dtype, norm_between=self.norm_between, name=f"rate_{rate}"
                )
            else:
                branch = ConvNorm(self.features, 3, rate=rate, dtype=self.dtype, name=f"rate_{rate}")
            branches.append(branch(x, train))
        branches.append(ImagePooling(self.features, dtype=self.dtype, name="pool")(x, train))
        project = ConvNorm(self.features, self.project_size, dtype=self.dtype, name="project")
        joined = project(jnp.concatenate(branches, -1), train)
        return nn.Dropout(self.dropout, deterministic=not train)(joined)
