"""Convolution layers over `segjax.ops`, so that every network shares the formulation that suits the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError
from segjax.nn.norm import BatchNorm
from segjax.ops.conv import conv2d
from segjax.ops.geometry import Padding, Pair, pair
from segjax.ops.upconv import conv_transpose2d

Activation = Callable[[jax.Array], jax.Array]

he_normal = nn.initializers.he_normal()


def bilinear_upsampling(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """The kernel [k, k, C, C] that makes a transposed convolution of stride k // 2 interpolate each channel bilinearly
    (Long et al., Fully convolutional networks, CVPR 2015, arXiv:1411.4038, section 4.3). An initialiser: no `key`."""
    del key
    size = shape[0]
    distance = np.abs(np.arange(size) - (size - 1) / 2) / ((size + 1) // 2)
    line = 1 - distance
    plane = np.outer(line, line)[:, :, None, None] * np.eye(shape[2], shape[3])
    return jnp.asarray(plane, dtype)


class Conv(nn.Module):
    """Convolution, [B, H, W, C] -> [B, H', W', features]; parameters `kernel` [kh, kw, C / groups, features], `bias`.

    Attributes:
      features: channels of the result.
      kernel_size: an int or (rows, columns).
      stride, rate, groups, padding: as in `segjax.ops.conv.conv2d`.
      use_bias: adds a bias; leave it out before batch normalisation, which removes it again.
      dtype: of the arithmetic and the result; parameters stay float32.
      kernel_init: initialiser of the kernel.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int | Pair = 1
    rate: int | Pair = 1
    groups: int = 1
    padding: Padding = "same"
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = he_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*pair(self.kernel_size), x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = conv2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            rate=self.rate,
            groups=self.groups,
            padding=self.padding,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y


class ConvNorm(nn.Module):
    """Convolution (child `conv`), batch normalisation (`norm`), activation; called `(x, train)`.

    Attributes:
      features, kernel_size, stride, rate, groups, padding, use_bias, dtype: as in `Conv`.
      act: applied last; None for none.
      eps: of the normalisation.
      momentum: the share of the old statistics that is kept.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int | Pair = 1
    rate: int | Pair = 1
    groups: int = 1
    act: Activation | None = nn.relu
    padding: Padding = "same"
    use_bias: bool = False
    eps: float = 1e-5
    momentum: float = 0.9
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            rate=self.rate,
            groups=self.groups,
            padding=self.padding,
            use_bias=self.use_bias,
            dtype=self.dtype,
            name="conv",
        )(x)
        x = BatchNorm(self.momentum, self.eps, self.dtype, name="norm")(x, train)
        return x if self.act is None else self.act(x)


class SeparableConv(nn.Module):
    """Depthwise convolution (child `depthwise`), then 1x1 (`pointwise`, a ConvNorm); called `(x, train)`.

    Attributes:
      features, kernel_size, rate, stride, dtype, eps, momentum: as in `ConvNorm`.
      act: after the 1x1 convolution; None for none.
      norm_between: normalise the depthwise result (and apply `act`, if any): `depthwise` is then a ConvNorm, as in
        TensorFlow's DeepLab; else it is a bare Conv without bias, as in most PyTorch versions.
    """

    features: int
    kernel_size: int | Pair = 3
    rate: int | Pair = 1
    stride: int | Pair = 1
    dtype: Any = jnp.float32
    act: Activation | None = nn.relu
    norm_between: bool = True
    eps: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        channels = x.shape[-1]
        window = {"stride": self.stride, "rate": self.rate, "groups": channels, "use_bias": False, "dtype": self.dtype}
        norm = {"act": self.act, "eps": self.eps, "momentum": self.momentum}
        if self.norm_between:
            x = ConvNorm(channels, self.kernel_size, **window, **norm, name="depthwise")(x, train)
        else:
            x = Conv(channels, self.kernel_size, **window, name="depthwise")(x)
        return ConvNorm(self.features, 1, dtype=self.dtype, **norm, name="pointwise")(x, train)


class GlobalConv(nn.Module):
    """A large kernel as two separable ones (Peng et al., Large kernel matters, CVPR 2017, arXiv:1703.02719, section
    3.1): k x 1 then 1 x k, plus 1 x k then k x 1, without a nonlinearity between.

    [B, H, W, C] -> [B, H, W, features]; children `tall_first`, `wide_second`, `wide_first`, `tall_second`, each a
    Conv with bias.

    Attributes:
      features: channels of the result, and between the two of a pair.
      kernel_size: k, odd; 15 covers the 16x16 maps of the paper.
      dtype: of the arithmetic.
    """

    features: int
    kernel_size: int = 15
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(size: Pair, name: str) -> Conv:
            return Conv(self.features, size, dtype=self.dtype, name=name)

        if self.kernel_size % 2 == 0:
            raise ModelError(f"GlobalConv: kernel_size={self.kernel_size} is even; take an odd one")
        tall, wide = (self.kernel_size, 1), (1, self.kernel_size)
        left = conv(wide, "wide_second")(conv(tall, "tall_first")(x))
        right = conv(tall, "tall_second")(conv(wide, "wide_first")(x))
        return left + right


class UpConv(nn.Module):
    """Transposed convolution, [B, H, W, C] -> [B, (H - 1) * stride - 2 * padding + k + output_padding, ..., features];
    parameters `kernel` [kh, kw, C, features], `bias`.

    Attributes:
      features: channels of the result.
      kernel_size, stride, padding, output_padding: as in `segjax.ops.upconv.conv_transpose2d`.
      use_bias: adds a bias.
      dtype: of the arithmetic and the result; parameters stay float32.
      kernel_init: initialiser of the kernel; None for He et al.'s, of the taps that an output pixel meets.
    """

    features: int
    kernel_size: int | Pair = 2
    stride: int | Pair = 2
    padding: int | Pair = 0
    output_padding: int | Pair = 0
    use_bias: bool = True
    dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rows, columns = pair(self.stride)
        # The usual fan-in counts the whole kernel, but an output pixel meets only every stride-th tap of it.
        init = nn.initializers.variance_scaling(2.0 * rows * columns, "fan_in", "truncated_normal")
        shape = (*pair(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init or init, shape, jnp.float32)
        y = conv_transpose2d(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)
        return y
