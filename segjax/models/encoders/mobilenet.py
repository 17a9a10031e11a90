"""MobileNet v2 as a feature extractor, with output stride.

Sandler, Howard, Zhu, Zhmoginov, Chen. MobileNetV2: Inverted Residuals and Linear Bottlenecks. CVPR 2018.
arXiv:1801.04381.

The layout is torchvision's. Trainable parameters at width 1.0: 1,811,712 without the last 1x1 convolution to 1280
channels (the layout of DeepLab ports, and the default here), 2,223,872 with it (torchvision's `features`, and the
encoder of segmentation_models_pytorch).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import ConvNorm

_RELU6 = jax.nn.relu6

# Table 2 of the paper: expansion, channels, blocks, stride.
SETTINGS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise 3x3, project by a linear 1x1 convolution (figure 4 of the paper).

    [B, H, W, C] -> [B, H/stride, W/stride, features]; with stride 1 and C = features the input is added.

    Attributes:
      features: channels out.
      expansion: channels of the depthwise convolution over C; 1 leaves the first convolution out.
      stride: of the depthwise convolution.
      rate: of the depthwise convolution.
    """

    features: int
    expansion: int = 6
    stride: int = 1
    rate: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        inner = x.shape[-1] * self.expansion
        y = x
        if self.expansion != 1:
            y = ConvNorm(inner, 1, act=_RELU6, dtype=self.dtype, name="expand")(y, train)
        y = ConvNorm(inner, 3, self.stride, self.rate, groups=inner, act=_RELU6, dtype=self.dtype, name="depthwise")(
            y, train
        )
        y = ConvNorm(self.features, 1, act=None, dtype=self.dtype, name="project")(y, train)
        return x + y if self.stride == 1 and x.shape[-1] == self.features else y


class MobileNetV2(Encoder):
    """MobileNet v2 features at stage strides 2, 4, 8, 16 and 32.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride); each stage is taken at its last block.

    Attributes:
      width: factor on all channels, rounded to a multiple of 8 (of `divisor`) and never down by more than a tenth.
      divisor: see `width`.
      last_conv: whether stride 32 goes through the 1x1 convolution to 1280 channels.
      settings: expansion, channels, blocks and stride of each stage, as in the paper's table 2.
    """

    width: float = 1.0
    divisor: int = 8
    last_conv: bool = False
    settings: tuple[tuple[int, int, int, int], ...] = SETTINGS

    @property
    def channels(self) -> dict[int, int]:
        by_stride, stride = {}, 2
        for _, features, _, step in self.settings:
            stride *= step
            by_stride[stride] = self._scaled(features)
        return {**by_stride, 32: self._last} if self.last_conv else by_stride

    @property
    def _last(self) -> int:
        return self._scaled(1280) if self.width > 1 else 1280

    def _scaled(self, features: int) -> int:
        wanted = features * self.width
        rounded = max(self.divisor, int(wanted + self.divisor / 2) // self.divisor * self.divisor)
        return rounded + self.divisor if rounded < 0.9 * wanted else rounded

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages([step for *_, step in self.settings], self.output_stride, start=2)
        x = ConvNorm(self._scaled(32), 3, 2, act=_RELU6, dtype=self.dtype, name="stem")(x, train)
        features, stride = {}, 2
        for i, (stage, (expansion, channels, blocks, step)) in enumerate(zip(stages, self.settings, strict=True)):
            stride *= step
            for j in range(blocks):
                x = InvertedResidual(
                    self._scaled(channels),
                    expansion,
                    stage.stride if j == 0 else 1,
                    stage.first_rate if j == 0 else stage.rate,
                    self.dtype,
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
            features[stride] = x
        if self.last_conv:
            features[32] = ConvNorm(self._last, 1, act=_RELU6, dtype=self.dtype, name="last")(x, train)
        return features


VARIANTS = {
    "mobilenetv2": dict(),
    "mobilenetv2_test": dict(
        width=0.1, divisor=4, settings=((1, 16, 1, 1), (6, 24, 1, 2), (6, 32, 1, 2), (6, 96, 1, 2), (6, 320, 2, 2))
    ),
}

ENCODER = MobileNetV2
