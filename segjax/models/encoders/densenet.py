"""DenseNet as a feature extractor.

Huang, Liu, van der Maaten, Weinberger. Densely Connected Convolutional Networks. CVPR 2017. arXiv:1608.06993. Layout:
table 1, as in torchvision: DenseNet-BC, a 1x1 convolution to four times the growth before each 3x3 one, and half the
channels after each block.

Trainable parameters without the classifier, equal to torchvision's: densenet121 6,953,856; densenet161 26,472,000;
densenet169 12,484,480.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.encoders.atrous import Stage, atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import Conv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import avg_pool, max_pool
from segjax.ops.precision import widen


class DenseLayer(nn.Module):
    """Normalisation, ReLU, 1x1 convolution, and again with 3x3. [B, H, W, C] -> [B, H, W, growth].

    Attributes:
      growth: channels of the result, a quarter of those between.
      rate: of the 3x3 convolution.
    """

    growth: int
    rate: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm1")(x, train))
        x = Conv(4 * self.growth, 1, use_bias=False, dtype=self.dtype, name="conv1")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm2")(x, train))
        return Conv(self.growth, 3, rate=self.rate, use_bias=False, dtype=self.dtype, name="conv2")(x)


class DenseNet(Encoder):
    """DenseNet features at stage strides 2 (before the max-pool), 4, 8, 16 and 32, each normalised and rectified.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride).

    Attributes:
      blocks: layers of each of the four blocks.
      growth: channels that a layer adds.
      stem_width: channels of the first convolution.
    """

    blocks: tuple[int, ...] = (6, 12, 24, 16)
    growth: int = 32
    stem_width: int = 64

    @property
    def channels(self) -> dict[int, int]:
        found, width = {2: self.stem_width}, self.stem_width
        for i, layers in enumerate(self.blocks):
            width += layers * self.growth
            found[4 * 2**i] = width
            width //= 2
        return found

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages((1, 2, 2, 2), self.output_stride, start=4)
        x = Conv(self.stem_width, 7, 2, use_bias=False, dtype=self.dtype, name="stem_conv")(x)
        features = {2: nn.relu(BatchNorm(dtype=self.dtype, name="stem_norm")(x, train))}
        x = max_pool(features[2], 3, 2, padding=1)
        for i, (layers, stage) in enumerate(zip(self.blocks, stages, strict=True), start=1):
            if i > 1:
                width = x.shape[-1] // 2
                x = Conv(width, 1, use_bias=False, dtype=self.dtype, name=f"transition{i - 1}_conv")(x)
                x = _halved(x, stage)
            for j in range(layers):
                new = DenseLayer(self.growth, stage.rate, self.dtype, name=f"block{i}_layer{j + 1}")(x, train)
                x = jnp.concatenate([x, new], -1)
            name = f"transition{i}_norm" if i < len(self.blocks) else "last_norm"
            x = features[2 ** (i + 1)] = nn.relu(BatchNorm(dtype=self.dtype, name=name)(x, train))
        return features


def _halved(x: jax.Array, stage: Stage) -> jax.Array:
    """2x2 average pooling; without stride, of the pixels `first_rate` apart at every position, the edge's beyond it."""
    if stage.stride == 2:
        return avg_pool(x, 2)
    height, width = x.shape[1:3]
    rate = stage.first_rate
    padded = jnp.pad(x, ((0, 0), (0, rate), (0, rate), (0, 0)), mode="edge")
    corners = [padded[:, i : i + height, j : j + width] for i in (0, rate) for j in (0, rate)]
    return sum(widen(corner) for corner in corners).astype(x.dtype) / 4


VARIANTS = {
    "densenet121": dict(),
    "densenet161": dict(blocks=(6, 12, 36, 24), growth=48, stem_width=96),
    "densenet169": dict(blocks=(6, 12, 32, 32)),
    "densenet_test": dict(blocks=(1, 1, 2, 1), growth=4, stem_width=8),
}

ENCODER = DenseNet
