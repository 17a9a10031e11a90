"""VGG with batch normalisation as a feature extractor: no fully connected layers.

Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015. arXiv:1409.1556.

Every convolution is followed by batch normalisation, whose offset makes a convolution bias redundant: a bias there
never gets a gradient in training, so there is none unless `conv_bias` asks for it. Trainable parameters of VGG16:
14,718,912, with biases 14,723,136 (torchvision's `vgg16_bn.features`).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import Encoder
from segjax.models.encoders.atrous import atrous_stages
from segjax.nn.conv import ConvNorm
from segjax.ops.pooling import max_pool


class ConvStack(nn.Module):
    """Convolutions of stride 1, each with batch normalisation and `act`. [B, H, W, C] -> [B, H, W, widths[-1]].

    Attributes:
      widths: channels of each convolution.
      kernel_size: of every convolution.
      rate: of every convolution.
      act: applied after each normalisation; None for none.
      conv_bias: biases in the convolutions (their training gradient is zero).
    """

    widths: tuple[int, ...]
    kernel_size: int = 3
    rate: int = 1
    act: Callable[[jax.Array], jax.Array] | None = nn.relu
    conv_bias: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = ConvNorm(
                width,
                self.kernel_size,
                rate=self.rate,
                act=self.act,
                use_bias=self.conv_bias,
                dtype=self.dtype,
                name=f"conv{i + 1}",
            )(x, train)
        return x


class VGG(Encoder):
    """VGG features: stage i before its pooling, at stride 2^i (from 1), and the last pooling's result one octave on.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride). A network that wants its own pooling between the stages calls `stage` instead.

    Attributes:
      depths: convolutions of each stage.
      widths: channels of each stage.
      kernel_size: of every convolution.
      conv_bias: biases in the convolutions.
    """

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    kernel_size: int = 3
    conv_bias: bool = False

    def setup(self) -> None:
        self.pools = atrous_stages((2,) * len(self.depths), self.output_stride)
        self.stages = [
            ConvStack((width,) * depth, self.kernel_size, pool.first_rate, conv_bias=self.conv_bias, dtype=self.dtype)
            for depth, width, pool in zip(self.depths, self.widths, self.pools, strict=True)
        ]

    @property
    def channels(self) -> dict[int, int]:
        return {2**i: width for i, width in enumerate((*self.widths, self.widths[-1]))}

    def stage(self, x: jax.Array, index: int, train: bool = False) -> jax.Array:
        """The convolutions of stage `index` (from 0) alone. [B, h, w, C] -> [B, h, w, widths[index]]."""
        return self.stages[index](x, train)

    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        features = {}
        for i, pool in enumerate(self.pools):
            features[2**i] = x = self.stage(x, i, train)
            x = _pool(x, pool.stride, pool.first_rate)
        return {**features, 2 ** len(self.pools): x}


def _pool(x: jax.Array, stride: int, rate: int) -> jax.Array:
    """2x2 max-pooling; without stride, of the pixels `rate` apart at every position, -inf beyond the far border."""
    if stride == 2:
        return max_pool(x, 2)
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (0, rate), (0, rate), (0, 0)), constant_values=-jnp.inf)
    best = x
    for row, column in ((0, rate), (rate, 0), (rate, rate)):
        other = padded[:, row : row + height, column : column + width]
        # Not jnp.maximum: on a tie that halves the gradient, and zeros after a ReLU tie often.
        best = jnp.where(other > best, other, best)
    return best


VARIANTS = {
    "vgg16": dict(),
    "vgg19": dict(depths=(2, 2, 4, 4, 4)),
}

ENCODER = VGG
