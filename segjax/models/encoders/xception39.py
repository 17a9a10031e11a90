"""Xception-39, the small encoder of BiSeNet, with output stride.

Yu, Wang, Peng, Gao, Yu, Sang. BiSeNet. ECCV 2018. arXiv:1808.00897, after Chollet. Xception. CVPR 2017.
arXiv:1610.02357.

The layout is ycszen/TorchSeg's (by BiSeNet's first author): an 8-channel stem, then residual blocks of three separable
3x3 convolutions, without normalisation between the depthwise and the 1x1 half. Parameters: 299,448.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import ConvNorm, SeparableConv
from segjax.ops.pooling import max_pool
from segjax.ops.residual import relu_of_sum


class Block(nn.Module):
    """Three separable 3x3 convolutions and a shortcut.

    [B, H, W, C] -> [B, H/stride, W/stride, 4 * inner]; called `(x, train)`.

    Attributes:
      inner: channels of the first two.
      stride: of the first and of the shortcut.
      rates: of these two, and of the others.
      project: the shortcut is a separable convolution too: in the first block of a stage.
    """

    inner: int
    stride: int = 1
    rates: tuple[int, int] = (1, 1)
    project: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(features: int, name: str, act=nn.relu, first: bool = False) -> SeparableConv:
            stride, rate = (self.stride, self.rates[0]) if first else (1, self.rates[1])
            return SeparableConv(
                features, rate=rate, stride=stride, act=act, norm_between=False, dtype=self.dtype, name=name
            )

        features = 4 * self.inner
        y = conv(self.inner, "conv1", first=True)(x, train)
        y = conv(self.inner, "conv2")(y, train)
        y = conv(features, "conv3", act=None)(y, train)
        if self.project:
            x = conv(features, "shortcut", act=None, first=True)(x, train)
        return relu_of_sum(x, y)


class Xception39(Encoder):
    """Xception-39 features at stage strides 2, 4 (after the max-pool), 8, 16 and 32.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride).

    Attributes:
      blocks: of each of the three stages.
      widths: of the stem and of the three stages' inner convolutions.
    """

    blocks: tuple[int, ...] = (4, 8, 4)
    widths: tuple[int, ...] = (8, 16, 32, 64)

    @property
    def channels(self) -> dict[int, int]:
        stem, *inner = self.widths
        return {2: stem, 4: stem, **{stride: 4 * n for stride, n in zip((8, 16, 32), inner, strict=True)}}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages((2, 2, 2), self.output_stride, start=4)
        features = {2: ConvNorm(self.widths[0], 3, 2, dtype=self.dtype, name="stem")(x, train)}
        x = features[4] = max_pool(features[2], 3, 2, padding=1)
        for i, (stage, inner) in enumerate(zip(stages, self.widths[1:], strict=True)):
            for j in range(self.blocks[i]):
                x = Block(
                    inner,
                    stage.stride if j == 0 else 1,
                    (stage.first_rate if j == 0 else stage.rate, stage.rate),
                    j == 0,
                    self.dtype,
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
            features[8 * 2**i] = x
        return features


VARIANTS = {
    "xception39": dict(),
    "xception39_test": dict(blocks=(1, 1, 2), widths=(4, 2, 2, 3)),
}

ENCODER = Xception39
