"""Layers that gather context from the whole image or from several rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.nn.conv import Conv, ConvNorm, SeparableConv
from segjax.ops.adaptive_pool import adaptive_avg_pool
from segjax.ops.pooling import global_avg_pool
from segjax.ops.resize import resize


class ImagePooling(nn.Module):
    """The image's mean through a 1x1 ConvNorm (child `conv_norm`), repeated at every pixel: [B, H, W, C] ->
    [B, H, W, features]; called `(x, train)`. In training its normalisation sees one value an image: a batch of
    one image leaves only the offset. With `norm=False` a 1x1 convolution without bias (child `conv`) and a ReLU."""

    features: int
    dtype: Any = jnp.float32
    norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        mean = global_avg_pool(x)
        if self.norm:
            pooled = ConvNorm(self.features, 1, dtype=self.dtype, name="conv_norm")(mean, train)
        else:
            pooled = nn.relu(Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="conv")(mean))
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
      pool_norm: batch normalisation of the image's mean, see `ImagePooling`.
      dtype: of the arithmetic.
    """

    features: int
    rates: Sequence[int]
    separable: bool = False
    dropout: float = 0.1
    dtype: Any = jnp.float32
    norm_between: bool = False
    project_size: int = 1
    pool_norm: bool = True

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
        branches.append(ImagePooling(self.features, self.dtype, self.pool_norm, name="pool")(x, train))
        project = ConvNorm(self.features, self.project_size, dtype=self.dtype, name="project")
        joined = project(jnp.concatenate(branches, -1), train)
        return nn.Dropout(self.dropout, deterministic=not train)(joined)


class PyramidPooling(nn.Module):
    """Pyramid pooling (Zhao et al., Pyramid scene parsing network, CVPR 2017, arXiv:1612.01105, section 3.2): means
    over 1x1, 2x2, 3x3 and 6x6 bins, each through a 1x1 ConvNorm, upsampled and appended to the input.

    [B, H, W, C] -> [B, H, W, C + len(bins) * features] for any H and W; called `(x, train)`; children `bins_N`. In
    training the normalisation of one bin sees one value an image: a batch of one image leaves only the offset.

    Attributes:
      features: channels of each branch; C / len(bins) in the paper.
      bins: of each branch, on a side.
      align_corners: of the bilinear upsampling; true in the authors' code, false in mmsegmentation.
      dtype: of the arithmetic.
      resize_first: upsample the means before their 1x1 ConvNorm, as in the authors' code of UPerNet.
    """

    features: int
    bins: Sequence[int] = (1, 2, 3, 6)
    align_corners: bool = True
    dtype: Any = jnp.float32
    resize_first: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.astype(self.dtype)
        branches = [x]
        for bins in self.bins:
            conv = ConvNorm(self.features, 1, dtype=self.dtype, name=f"bins_{bins}")
            pooled = adaptive_avg_pool(x, bins)
            if not self.resize_first:
                pooled = conv(pooled, train)
            pooled = resize(pooled, x.shape[1:3], align_corners=self.align_corners)
            branches.append(conv(pooled, train) if self.resize_first else pooled)
        return jnp.concatenate(branches, -1)


class StripPooling(nn.Module):
    """Strip pooling (Hou et al., Strip pooling: rethinking spatial pooling for scene parsing, CVPR 2020,
    arXiv:2003.13328, section 3.1): the means of whole rows and of whole columns decide, pixel by pixel, how much of the
    input passes.

    [B, H, W, C] -> the same shape; called `(x, train)`. Children: `rows`, a 3x1 ConvNorm over the means of the rows
    [B, H, 1, C]; `columns`, a 1x3 one over those of the columns; `gate`, a 1x1 convolution of the rectified sum of
    both, whose sigmoid multiplies x (equations 3 and 4; the normalisations and the rectifier as in the authors' code).

    Attributes:
      dtype: of the arithmetic.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.astype(self.dtype)
        channels = x.shape[-1]
        strip = {"act": None, "dtype": self.dtype}
        rows = ConvNorm(channels, (3, 1), **strip, name="rows")(adaptive_avg_pool(x, (None, 1)), train)
        columns = ConvNorm(channels, (1, 3), **strip, name="columns")(adaptive_avg_pool(x, (1, None)), train)
        gate = Conv(channels, 1, dtype=self.dtype, name="gate")(nn.relu(rows + columns))
        return x * nn.sigmoid(gate)
