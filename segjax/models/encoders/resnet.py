"""ResNet as a feature extractor, with output stride and multi-grid.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016. arXiv:1512.03385.

The layout is torchvision's (also called v1.5): the bottleneck's stride sits on its 3x3 convolution, the stem is a 7x7
convolution and a 3x3 max-pool of stride 2. `stem="deep"` puts three 3x3 convolutions of 32, 32, 64 channels in place of
the 7x7 one (the "v1c" of mmsegmentation). Trainable parameters without the classifier, equal to torchvision's:
resnet18 11,176,512; resnet34 21,284,672; resnet50 23,508,032; resnet101 42,500,160; resnet152 58,143,808; with the
deep stem, 19,232 more.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import Encoder
from segjax.models.encoders.atrous import atrous_stages
from segjax.nn.conv import ConvNorm
from segjax.ops.pooling import max_pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut. [B, H, W, C] -> [B, H/stride, W/stride, features].

    Attributes:
      features: channels out.
      stride: of the first convolution and of the shortcut.
      rates: of the first convolution, which samples the resolution before the stride, and of the second.
    """

    features: int
    stride: int = 1
    rates: tuple[int, int] = (1, 1)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        y = ConvNorm(self.features, 3, self.stride, self.rates[0], dtype=self.dtype, name="conv1")(x, train)
        y = ConvNorm(self.features, 3, rate=self.rates[1], act=None, dtype=self.dtype, name="conv2")(y, train)
        return nn.relu(y + _shortcut(self, x, y.shape[-1], train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut. [B, H, W, C] -> [B, H/stride, W/stride, features].

    Attributes:
      features: channels out; the 3x3 convolution works on a quarter of them.
      stride: of the 3x3 convolution and of the shortcut.
      rates: of the 3x3 convolution, which samples the resolution before the stride; the second is `BasicBlock`'s.
    """

    features: int
    stride: int = 1
    rates: tuple[int, int] = (1, 1)
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        inner = self.features // 4
        y = ConvNorm(inner, 1, dtype=self.dtype, name="conv1")(x, train)
        y = ConvNorm(inner, 3, self.stride, self.rates[0], dtype=self.dtype, name="conv2")(y, train)
        y = ConvNorm(self.features, 1, act=None, dtype=self.dtype, name="conv3")(y, train)
        return nn.relu(y + _shortcut(self, x, y.shape[-1], train))


def _shortcut(block: BasicBlock | Bottleneck, x: jax.Array, features: int, train: bool) -> jax.Array:
    """`x` itself, or its 1x1 projection where the block changes the channels or the stride."""
    if block.stride == 1 and x.shape[-1] == features:
        return x
    return ConvNorm(features, 1, block.stride, act=None, dtype=block.dtype, name="shortcut")(x, train)


class ResNet(Encoder):
    """ResNet features at stage strides 2 (before the max-pool), 4, 8, 16 and 32.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride).

    Attributes:
      blocks: residual blocks of each of the four stages.
      bottleneck: `Bottleneck` (four times the channels) rather than `BasicBlock`.
      width: channels of the stem and of the first stage's 3x3 convolutions; 64 in every published network.
      stem: "7x7" or "deep".
      multi_grid: a factor on the rate of each block of the last stage (Chen et al., DeepLab v3, arXiv:1706.05587,
        section 3.2.1); empty for none.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    stem: str = "7x7"
    multi_grid: tuple[int, ...] = ()

    @property
    def channels(self) -> dict[int, int]:
        factor = self.width * (4 if self.bottleneck else 1)
        return {2: self.width, 4: factor, 8: 2 * factor, 16: 4 * factor, 32: 8 * factor}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages((1, 2, 2, 2), self.output_stride, start=4)
        if self.multi_grid and len(self.multi_grid) != self.blocks[-1]:
            raise ModelError(
                f"multi_grid={self.multi_grid} has {len(self.multi_grid)} factors, but the last stage has "
                f"{self.blocks[-1]} blocks: give one factor a block."
            )
        block = Bottleneck if self.bottleneck else BasicBlock
        features = {2: self._stem(x, train)}
        x = max_pool(features[2], 3, 2, padding=1)
        for i, (stage, (stride, channels)) in enumerate(zip(stages, list(self.channels.items())[1:], strict=True)):
            last = i == len(stages) - 1
            for j in range(self.blocks[i]):
                grid = self.multi_grid[j] if last and self.multi_grid else 1
                x = block(
                    channels,
                    stage.stride if j == 0 else 1,
                    (grid * (stage.first_rate if j == 0 else stage.rate), grid * stage.rate),
                    self.dtype,
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
            features[stride] = x
        return features

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        if self.stem == "7x7":
            return ConvNorm(self.width, 7, 2, dtype=self.dtype, name="stem")(x, train)
        if self.stem != "deep":
            raise ModelError(f"stem={self.stem!r} is unknown: use '7x7' or 'deep'.")
        for i, (features, stride) in enumerate([(self.width // 2, 2), (self.width // 2, 1), (self.width, 1)]):
            x = ConvNorm(features, 3, stride, dtype=self.dtype, name=f"stem{i + 1}")(x, train)
        return x


VARIANTS = {
    "resnet18": dict(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": dict(blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": dict(blocks=(3, 4, 6, 3)),
    "resnet101": dict(blocks=(3, 4, 23, 3)),
    "resnet152": dict(blocks=(3, 8, 36, 3)),
    "resnet_test": dict(blocks=(1, 1, 1, 2), bottleneck=False, width=8),
}

ENCODER = ResNet
