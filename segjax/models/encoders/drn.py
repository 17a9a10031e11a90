"""Dilated residual networks C and D as feature extractors.

Yu, Koltun, Funkhouser. Dilated Residual Networks. CVPR 2017. arXiv:1705.09914. Layout: fyu/drn; D is the authors' later
simplification, in which the first and last levels are plain convolutions. DRN-A is a ResNet with other rates:
`segjax/models/semantic/drn.py` has it.

What is particular: a stride of 8 kept to the end by dilation; no max-pool but a strided level of convolutions; after
the dilated levels two more with falling rates and no shortcuts, which take away the gridding.

Trainable parameters, equal to fyu/drn less its classifier: drn_c_26 20,613,584; drn_d_22 15,880,752; drn_d_24
20,601,392; drn_d_54 35,296,176. drn_c_58 has 40,029,008, 1,049,600 fewer than theirs, whose seventh level holds a
shortcut's projection that is never added.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from segjax.models.encoders.atrous import atrous_stages
from segjax.models.encoders.base import Encoder
from segjax.models.encoders.resnet import BasicBlock, Bottleneck
from segjax.nn.conv import ConvNorm


class DRN(Encoder):
    """DRN features at stage strides 1, 2, 4, 8, 16 and 32: levels 1 to 5, and the last level.

    `__call__(x, train)`: x float [B, H, W, C] -> {stride: [B, H/s, W/s, channels[stride]]}, s = min(stride,
    output_stride). Each dilated level samples at its own rate from its first convolution on.

    Attributes:
      output_stride: 8 in all published networks; coarser ones have lower rates.
      blocks: residual blocks of levels 3 to 6.
      bottleneck: those levels' blocks are `Bottleneck`s (four times the channels) rather than `BasicBlock`s.
      residual_start: levels 1 and 2 are a `BasicBlock` each (C) rather than a convolution each (D).
      tail: 3x3 convolutions of levels 7 and 8.
      widths: of the eight levels.
    """

    output_stride: int = 8
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    residual_start: bool = False
    tail: tuple[int, int] = (1, 1)
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512, 512, 512)

    @property
    def channels(self) -> dict[int, int]:
        factor = 4 if self.bottleneck else 1
        middle = {2**i: factor * self.widths[i] for i in (2, 3, 4)}
        return {1: self.widths[0], 2: self.widths[1], **middle, 32: self.widths[7]}

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        stages = atrous_stages((1, 2, 2, 2, 2, 2), self.output_stride)
        x = ConvNorm(self.widths[0], 7, dtype=self.dtype, name="stem")(x, train)
        features = {}
        for level, stage in enumerate(stages, start=1):
            if level > 2 or self.residual_start:
                x = self._residual(x, level, stage.stride, stage.rate, train)
            else:
                x = self._convs(x, level, 1, stage.stride, 1, train)
            features[2 ** (level - 1)] = x
        for level, (convs, factor) in enumerate(zip(self.tail, (2, 4), strict=True), start=7):
            x = self._convs(x, level, convs, 1, max(1, stages[-1].rate // factor), train)
        return {**features, 32: x}

    def _residual(self, x: jax.Array, level: int, stride: int, rate: int, train: bool) -> jax.Array:
        bottleneck = self.bottleneck and level > 2
        block = Bottleneck if bottleneck else BasicBlock
        features = self.widths[level - 1] * (4 if bottleneck else 1)
        for j in range(self.blocks[level - 3] if level > 2 else 1):
            name = f"level{level}_block{j + 1}"
            x = block(features, stride if j == 0 else 1, (rate, rate), self.dtype, name=name)(x, train)
        return x

    def _convs(self, x: jax.Array, level: int, convs: int, stride: int, rate: int, train: bool) -> jax.Array:
        for j in range(convs):
            name = f"level{level}_conv{j + 1}"
            x = ConvNorm(self.widths[level - 1], 3, stride if j == 0 else 1, rate, dtype=self.dtype, name=name)(
                x, train
            )
        return x


_C = dict(residual_start=True, tail=(2, 2))
_DEEP = (3, 4, 6, 3)

VARIANTS = {
    "drn_c_26": dict(**_C),
    "drn_c_42": dict(blocks=_DEEP, **_C),
    "drn_c_58": dict(blocks=_DEEP, bottleneck=True, **_C),
    "drn_d_22": dict(),
    "drn_d_24": dict(tail=(2, 2)),
    "drn_d_38": dict(blocks=_DEEP),
    "drn_d_40": dict(blocks=_DEEP, tail=(2, 2)),
    "drn_d_54": dict(blocks=_DEEP, bottleneck=True),
    "drn_d_56": dict(blocks=_DEEP, bottleneck=True, tail=(2, 2)),
    "drn_d_105": dict(blocks=(3, 4, 23, 3), bottleneck=True),
    "drn_d_107": dict(blocks=(3, 4, 23, 3), bottleneck=True, tail=(2, 2)),
    "drn_test": dict(blocks=(1, 1, 1, 1), widths=(4, 4, 4, 4, 8, 8, 8, 8)),
}

ENCODER = DRN
