"""VGG as a feature extractor, with batch normalisation or without, with the fully connected layers or without.

Simonyan, Zisserman. Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015. arXiv:1409.1556.

With `norm` every convolution is followed by batch normalisation, whose offset makes a convolution bias redundant: a
bias there never gets a gradient in training, so there is none unless `conv_bias` asks for it. Without `norm`, as in the
paper, every convolution has a bias. Trainable parameters of VGG16: 14,718,912, with biases 14,723,136 (torchvision's
`vgg16_bn.features`); without normalisation 14,714,688 (`vgg16.features`); with fc6 and fc7 as convolutions 134,260,544.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.geometry import Padding
from segjax.ops.pooling import max_pool


class ConvStack(nn.Module):
    """Convolutions of stride 1, each with batch normalisation and `act`. [B, H, W, C] -> [B, H, W, widths[-1]].

    Attributes:
      widths: channels of each convolution.
      kernel_size: of every convolution.
      rate: of every convolution.
      act: applied after each normalisation; None for none.
      conv_bias: biases in the convolutions (their training gradient is zero).
      norm: without it each convolution has a bias and no normalisation.
      padding: of every convolution; "valid" shrinks the result.
    """

    widths: tuple[int, ...]
    kernel_size: int = 3
    rate: int = 1
    act: Callable[[jax.Array], jax.Array] | None = nn.relu
    conv_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    norm: bool = True
    padding: Padding = "same"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        window = {"rate": self.rate, "padding": self.padding, "dtype": self.dtype}
        for i, width in enumerate(self.widths):
            name = f"conv{i + 1}"
            if self.norm:
                fields = {"act": self.act, "use_bias": self.conv_bias}
                x = ConvNorm(width, self.kernel_size, **window, **fields, name=name)(x, train)
            else:
                x = Conv(width, self.kernel_size, **window, name=name)(x)
                x = x if self.act is None else self.act(x)
        return x


class FullyConnected(nn.Module):
    """VGG's two fully connected layers as convolutions (Long et al., CVPR 2015, arXiv:1411.4038, section 3.1): `fc6`,
    then `fc7` of 1x1, each with ReLU and dropout. [B, H, W, C] -> [B, H, W, features]; called `(x, train)`. Dropout
    draws from the rng "dropout".

    Attributes:
      features: channels of both.
      kernel_size, rate, padding: of fc6; "valid" leaves kernel_size - 1 rows and columns fewer at rate 1.
      dropout: rate after each.
      dtype: of the arithmetic.
    """

    features: int = 4096
    kernel_size: int = 7
    rate: int = 1
    padding: Padding = "same"
    dropout: float = 0.5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        window = {"rate": self.rate, "padding": self.padding}
        x = nn.relu(Conv(self.features, self.kernel_size, **window, dtype=self.dtype, name="fc6")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = nn.relu(Conv(self.features, 1, dtype=self.dtype, name="fc7")(x))
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class VGG(Encoder):
    """VGG features: stage i before its pooling, at stride 2^i (from 1), and the last pooling's result one octave on.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride). A network that wants its own pooling, or another end, calls `stage`, `pool` and `fully_connected`.

    Attributes:
      depths: convolutions of each stage.
      widths: channels of each stage.
      kernel_size: of every convolution.
      conv_bias: biases in the convolutions before a normalisation.
      norm: batch normalisation after each convolution; else a bias in it.
      padding: of the convolutions; "valid" shrinks every stage.
      window: of the pooling: 2, or DeepLab v1's 3, padded by 1, which is not dilated where it loses its stride.
      ceil_pool: a 2x2 pooling with stride keeps a last, partial window, as Caffe's does (3x3 always keeps it).
      fc: fields of `FullyConnected`, put behind the last pooling; None for no such layers.
    """

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    kernel_size: int = 3
    conv_bias: bool = False
    norm: bool = True
    padding: Padding = "same"
    window: int = 2
    ceil_pool: bool = False
    fc: Mapping[str, Any] | None = None

    def setup(self) -> None:
        if self.window not in (2, 3):
            raise ModelError(f"window={self.window} is no pooling of VGG: use 2 or 3.")
        self.pools = atrous_stages((2,) * len(self.depths), self.output_stride)
        fields = {"conv_bias": self.conv_bias, "norm": self.norm, "padding": self.padding, "dtype": self.dtype}
        self.stages = [
            ConvStack((width,) * depth, self.kernel_size, pool.first_rate, **fields)
            for depth, width, pool in zip(self.depths, self.widths, self.pools, strict=True)
        ]
        if self.fc is not None:
            self.fully_connected = FullyConnected(**self.fc, dtype=self.dtype)

    @property
    def channels(self) -> dict[int, int]:
        last = self.widths[-1] if self.fc is None else self.fc.get("features", FullyConnected.features)
        return {2**i: width for i, width in enumerate((*self.widths, last))}

    def stage(self, x: jax.Array, index: int, train: bool = False) -> jax.Array:
        """The convolutions of stage `index` (from 0) alone. [B, h, w, C] -> [B, h, w, widths[index]]."""
        return self.stages[index](x, train)

    def pool(self, x: jax.Array, index: int) -> jax.Array:
        """The pooling behind stage `index` alone. [B, h, w, C] -> [B, h / 2, w / 2, C], or the same size."""
        pool = self.pools[index]
        if self.window == 3:
            return max_pool(x, 3, pool.stride, padding=1, ceil_mode=True)
        return _pool(x, pool.stride, pool.first_rate, self.ceil_pool)

    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        features = {}
        for i in range(len(self.pools)):
            features[2**i] = x = self.stage(x, i, train)
            x = self.pool(x, i)
        return {**features, 2 ** len(self.pools): x if self.fc is None else self.fully_connected(x, train)}


def _pool(x: jax.Array, stride: int, rate: int, ceil_mode: bool) -> jax.Array:
    """2x2 max-pooling; without stride, of the pixels `rate` apart at every position, -inf beyond the far border."""
    if stride == 2:
        return max_pool(x, 2, ceil_mode=ceil_mode)
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
    "vgg16_plain": dict(norm=False),
    "vgg19_plain": dict(depths=(2, 2, 4, 4, 4), norm=False),
    "vgg16_fc": dict(norm=False, fc={}),
    "vgg19_fc": dict(depths=(2, 2, 4, 4, 4), norm=False, fc={}),
    "vgg_test": dict(depths=(1, 1, 1, 1, 1), widths=(4, 4, 6, 8, 8), norm=False),
}

ENCODER = VGG
