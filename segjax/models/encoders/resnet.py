"""ResNet as a feature extractor, with output stride and multi-grid.

He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition. CVPR 2016. arXiv:1512.03385.

The layout is torchvision's (also called v1.5): the bottleneck's stride sits on its 3x3 convolution, the stem is a 7x7
convolution and a 3x3 max-pool of stride 2. `stem="deep"` puts three 3x3 convolutions of 32, 32, 64 channels in place of
the 7x7 one (the "v1c" of mmsegmentation), `stem="wide"` of 64, 64, 128 (hszhao/semseg and the networks after it).
Trainable parameters without the classifier, equal to torchvision's: resnet18 11,176,512; resnet34 21,284,672;
resnet50 23,508,032; resnet101 42,500,160; resnet152 58,143,808; with the deep stem 19,232 more, with the wide one
123,776 more before bottlenecks and 148,480 before basic blocks.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.encoders.atrous import Stage, atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import ConvNorm
from segjax.ops.pooling import max_pool
from segjax.ops.residual import relu_of_sum


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
        return relu_of_sum(y, _shortcut(self, x, y.shape[-1], train))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut. [B, H, W, C] -> [B, H/stride, W/stride, features].

    Attributes:
      features: channels out; the 3x3 convolution works on a quarter of them.
      stride: of the 3x3 convolution and of the shortcut.
      rates: of the 3x3 convolution, which samples the resolution before the stride; the second is `BasicBlock`'s.
      stride_in_1x1: the first 1x1 convolution has the stride instead, as in the paper's own Caffe networks.
    """

    features: int
    stride: int = 1
    rates: tuple[int, int] = (1, 1)
    dtype: jnp.dtype = jnp.float32
    stride_in_1x1: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        inner = self.features // 4
        first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
        y = ConvNorm(inner, 1, first, dtype=self.dtype, name="conv1")(x, train)
        y = ConvNorm(inner, 3, second, self.rates[0], dtype=self.dtype, name="conv2")(y, train)
        y = ConvNorm(self.features, 1, act=None, dtype=self.dtype, name="conv3")(y, train)
        return relu_of_sum(y, _shortcut(self, x, y.shape[-1], train))


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
      stem: "7x7", "deep" or "wide".
      multi_grid: a factor on the rate of each block of the last stage (Chen et al., DeepLab v3, arXiv:1706.05587,
        section 3.2.1); empty for none.
      dilate_first: the first block of a dilated stage samples at the stage's own rate, as in the Caffe networks of
        PSPNet and DeepLab, rather than at the rate of the stage before, at which a classifier's weights fit.
      stage_rates: the rates of each stage's 3x3 convolutions, block by block and over again, instead of those that
        follow from the output stride (hybrid dilated convolution: Wang et al., arXiv:1702.08502).
      stride_in_1x1: see `Bottleneck`.
      ceil_pool: the max-pool keeps a last, partial window, as Caffe's does: an even side gains a pixel.
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64
    stem: str = "7x7"
    multi_grid: tuple[int, ...] = ()
    dilate_first: bool = False
    stage_rates: tuple[tuple[int, ...], ...] = ()
    stride_in_1x1: bool = False
    ceil_pool: bool = False

    @property
    def channels(self) -> dict[int, int]:
        factor = self.width * (4 if self.bottleneck else 1)
        return {
            2: self.width * (2 if self.stem == "wide" else 1),
            4: factor,
            8: 2 * factor,
            16: 4 * factor,
            32: 8 * factor,
        }

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages((1, 2, 2, 2), self.output_stride, start=4)
        if self.multi_grid and len(self.multi_grid) != self.blocks[-1]:
            raise ModelError(
                f"multi_grid={self.multi_grid} has {len(self.multi_grid)} factors, but the last stage has "
                f"{self.blocks[-1]} blocks: give one factor a block."
            )
        if self.stage_rates and len(self.stage_rates) != len(stages):
            raise ModelError(f"stage_rates={self.stage_rates} has not one entry a stage: give {len(stages)}.")
        block = Bottleneck if self.bottleneck else BasicBlock
        fields = {"stride_in_1x1": self.stride_in_1x1} if self.bottleneck else {}
        features = {2: self._stem(x, train)}
        x = max_pool(features[2], 3, 2, padding=1, ceil_mode=self.ceil_pool)
        for i, (stage, (stride, channels)) in enumerate(zip(stages, list(self.channels.items())[1:], strict=True)):
            for j in range(self.blocks[i]):
                x = block(
                    channels,
                    stage.stride if j == 0 else 1,
                    self._rates(i, j, stage),
                    self.dtype,
                    **fields,
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
            features[stride] = x
        return features

    def _rates(self, i: int, j: int, stage: Stage) -> tuple[int, int]:
        """Of block j of stage i, as `BasicBlock.rates`."""
        if self.stage_rates:
            rates = self.stage_rates[i]
            return (rates[j % len(rates)],) * 2
        grid = self.multi_grid[j] if self.multi_grid and i == len(self.blocks) - 1 else 1
        own = j > 0 or self.dilate_first
        return grid * (stage.rate if own else stage.first_rate), grid * stage.rate

    def _stem(self, x: jax.Array, train: bool) -> jax.Array:
        if self.stem == "7x7":
            return ConvNorm(self.width, 7, 2, dtype=self.dtype, name="stem")(x, train)
        widths = {
            "deep": (self.width // 2, self.width // 2, self.width),
            "wide": (self.width, self.width, 2 * self.width),
        }
        if self.stem not in widths:
            raise ModelError(f"stem={self.stem!r} is unknown: use '7x7', 'deep' or 'wide'.")
        for i, features in enumerate(widths[self.stem]):
            x = ConvNorm(features, 3, 2 if i == 0 else 1, dtype=self.dtype, name=f"stem{i + 1}")(x, train)
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
