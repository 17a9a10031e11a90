"""Xception-65, aligned, as a feature extractor: DeepLab's.

Chollet. Xception: Deep Learning with Depthwise Separable Convolutions. CVPR 2017. arXiv:1610.02357; changed by Chen,
Zhu, Papandreou, Schroff, Adam. DeepLab v3+. ECCV 2018. arXiv:1802.02611, section 3.2 and figure 4: more modules in the
middle, separable convolutions with stride in place of max-pools, normalisation after each depthwise convolution.

Trainable parameters without the classifier: 37,867,312, equal to timm's `xception65` and to the backbone of
jfzhang95/pytorch-deeplab-xception.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import ConvNorm, SeparableConv

_EPS = 1e-3  # of batch normalisation, in DeepLab's code


class XceptionModule(nn.Module):
    """Three separable convolutions, each behind a ReLU, and a shortcut. [B, H, W, C] -> [B, H/stride, W/stride,
    features[-1]].

    Attributes:
      features: channels of the three.
      stride: of the last.
      rate: of all.
    """

    features: tuple[int, int, int]
    stride: int = 1
    rate: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = x
        for i, features in enumerate(self.features, start=1):
            window = {"stride": self.stride if i == 3 else 1, "rate": self.rate}
            conv = SeparableConv(features, **window, act=None, eps=_EPS, dtype=self.dtype, name=f"conv{i}")
            y = conv(nn.relu(y), train)
        if self.stride > 1 or x.shape[-1] != y.shape[-1]:
            x = ConvNorm(y.shape[-1], 1, self.stride, act=None, eps=_EPS, dtype=self.dtype, name="shortcut")(x, train)
        return x + y


class Xception(Encoder):
    """Xception features at stage strides 2, 4, 8, 16 and 32.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride); each stage is taken at its last module, rectified.

    Attributes:
      middle: modules at stride 16.
      widths: of the stem, the three entry modules, and the last module's result.
      last_widths: of the separable convolutions at the end.
    """

    middle: int = 16
    widths: tuple[int, ...] = (64, 128, 256, 728, 1024)
    last_widths: tuple[int, int, int] = (1536, 1536, 2048)

    @property
    def channels(self) -> dict[int, int]:
        return {**{2 ** (i + 1): width for i, width in enumerate(self.widths[:4])}, 32: self.last_widths[-1]}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        *entry, last = atrous_stages((2, 2, 2, 2), self.output_stride, start=2)
        norm = {"eps": _EPS, "dtype": self.dtype}
        x = ConvNorm(self.widths[0] // 2, 3, 2, **norm, name="stem1")(x, train)
        x = ConvNorm(self.widths[0], 3, **norm, name="stem2")(x, train)
        features = {2: x}
        for i, (width, stage) in enumerate(zip(self.widths[1:4], entry, strict=True), start=1):
            module = XceptionModule((width,) * 3, stage.stride, stage.first_rate, self.dtype, name=f"entry{i}")
            x = module(x, train)
            features[2 ** (i + 1)] = nn.relu(x)
        width, rate = self.widths[3], entry[-1].rate
        for i in range(1, self.middle + 1):
            x = XceptionModule((width,) * 3, rate=rate, dtype=self.dtype, name=f"middle{i}")(x, train)
        features[16] = nn.relu(x)
        wide = (width, self.widths[4], self.widths[4])
        x = XceptionModule(wide, last.stride, last.first_rate, self.dtype, name="exit")(x, train)
        for i, width in enumerate(self.last_widths, start=1):
            x = SeparableConv(width, rate=last.rate, **norm, name=f"last{i}")(x, train)
        return {**features, 32: x}


VARIANTS = {
    "xception65": dict(),
    "xception_test": dict(middle=1, widths=(4, 4, 6, 8, 8), last_widths=(8, 8, 8)),
}

ENCODER = Xception
