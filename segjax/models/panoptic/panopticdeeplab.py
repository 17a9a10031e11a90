"""Panoptic-DeepLab.

Cheng, Collins, Zhu, Liu, Huang, Adam, Chen. Panoptic-DeepLab: A Simple, Strong, and Fast Baseline for Bottom-Up
Panoptic Segmentation. CVPR 2020. arXiv:1911.10194.

What is particular (figure 2): one encoder and two decoders, each with its own atrous spatial pyramid pooling. The
semantic decoder classifies pixels. The instance decoder, of half the channels, finds the centres of instances in a
heatmap, and says for each pixel where the centre of its instance lies. Both go up the encoder's stages by bilinear
resizing, concatenation and a depthwise separable 5x5 convolution, and end at stride 4.

Parameters at 19 classes, equal to bowenc0221/panoptic-deeplab at cf8e20b (configs/*_os32_cityscapes*.yaml):

    resnet50       55,308,870
    resnet101      74,300,998
    mobilenetv2     7,719,814

At output stride 32 that code has a third step of the decoders, from the stage at stride 16. The paper's network, at
output stride 16, begins at stride 8: `resnet50-os16`. Its pyramid does not normalise the image's mean, and predictions
are upsampled with aligned corners. Panoptic quality on Cityscapes val, that repository: resnet50 58.6, one scale.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.schema import CENTER, LOGITS, OFFSET
from segjax.models.base import EncoderNetwork
from segjax.nn.context import ASPP
from segjax.nn.conv import Conv, ConvNorm, SeparableConv
from segjax.ops.logits import Logits
from segjax.ops.precision import widen
from segjax.ops.resize import resize

PAPER = "Cheng, Collins, Zhu, Liu, Huang, Adam, Chen. Panoptic-DeepLab. CVPR 2020. arXiv:1911.10194"
INPUT = (1024, 2048, 19)

VARIANTS = {
    "resnet50": dict(),
    "resnet101": dict(encoder="resnet101"),
    "mobilenetv2": dict(encoder="mobilenetv2"),
    "resnet50-os16": dict(output_stride=16),
    "test": dict(
        encoder="resnet_test",
        output_stride=16,
        rates=(1, 2),
        context_features=8,
        features=8,
        instance_features=8,
        head_features=4,
        low_features=(8, 4, 4),
        instance_low_features=(8, 4, 4),
        dropout=0.0,
    ),
}

STAGES = (16, 8, 4)  # from coarse to fine


class PanopticDeepLab(EncoderNetwork):
    """Panoptic-DeepLab.

    Returns, beside `logits` [B, H, W, K], `center` float32 [B, H, W, 1], 1 at the centre of an instance, and `offset`
    float32 [B, H, W, 2], (rows, columns) in pixels from each pixel to the centre of its instance.

    Attributes:
      encoder: a name of `segjax.models.encoders.ENCODERS` with stages at strides 4, 8, 16 and 32.
      output_stride: of the encoder, 32, 16 or 8.
      rates: of the pyramids' 3x3 convolutions, in pixels of the deepest stage; empty for (3, 6, 9) at output stride 32,
        twice that at 16.
      context_features: channels of both pyramids.
      features: channels of the semantic decoder and of its head.
      instance_features: channels of the instance decoder.
      head_features: channels of the heads of centres and of offsets.
      low_features: channels to which the stages at strides 16, 8 and 4 are reduced before the semantic decoder joins
        them; it joins those finer than the output stride.
      instance_low_features: the same of the instance decoder.
      dropout: rate after the pyramids.
      align_corners: of every resize.
    """

    encoder: str = "resnet50"
    output_stride: int = 32
    rates: tuple[int, ...] = ()
    context_features: int = 256
    features: int = 256
    instance_features: int = 128
    head_features: int = 32
    low_features: tuple[int, ...] = (128, 64, 32)
    instance_low_features: tuple[int, ...] = (64, 32, 16)
    dropout: float = 0.5
    align_corners: bool = True

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `Network`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or the output stride.
        """
        features = self.stages(images, (4, 8, 16, 32), train)

        x = self._decoder(self.features, self.low_features, "semantic_decoder")(features, train)
        logits = self._head(self.features, self.num_classes, "semantic_head")(x, train)

        x = self._decoder(self.instance_features, self.instance_low_features, "instance_decoder")(features, train)
        center = self._head(self.head_features, 1, "center_head")(x, train)
        offset = self._head(self.head_features, 2, "offset_head")(x, train)
        # A step of the network's output is as many pixels of the image: meta_arch/panoptic_deeplab.py of the reference.
        offset = STAGES[-1] * widen(offset)

        heads = {LOGITS: logits, CENTER: center, OFFSET: offset}
        size = images.shape[1:3]
        return {key: Logits(widen(values), size, self.align_corners) for key, values in heads.items()}

    def _decoder(self, features: int, low_features: Sequence[int], name: str) -> nn.Module:
        return Decoder(
            features,
            tuple((stage, low) for stage, low in zip(STAGES, low_features) if stage < self.output_stride),
            self.context_features,
            self.rates or tuple(96 // self.output_stride * i for i in (1, 2, 3)),
            self.dropout,
            self.align_corners,
            self.dtype,
            name=name,
        )

    def _head(self, features: int, outputs: int, name: str) -> nn.Module:
        return Head(features, outputs, self.dtype, name=name)


class Decoder(nn.Module):
    """Pyramid on the deepest stage (child `aspp`), then a step up for each finer one (`low_S`, `fuse_S` at stage S).

    `{stage stride: [B, h, w, C]}` -> [B, H/4, W/4, features]; called `(features, train)`.

    Attributes:
      features: channels of each step.
      low_features: (stage stride, channels it is reduced to), from coarse to fine.
      context_features, rates, dropout: of the pyramid.
      align_corners: of the resizes.
      dtype: of the arithmetic.
    """

    features: int
    low_features: tuple[tuple[int, int], ...]
    context_features: int
    rates: tuple[int, ...]
    dropout: float
    align_corners: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Mapping[int, jax.Array], train: bool) -> jax.Array:
        aspp = ASPP(
            self.context_features, self.rates, dropout=self.dropout, pool_norm=False, dtype=self.dtype, name="aspp"
        )
        x = aspp(features[32], train)
        for stage, channels in self.low_features:
            low = ConvNorm(channels, 1, dtype=self.dtype, name=f"low_{stage}")(features[stage], train)
            x = resize(x, low.shape[1:3], align_corners=self.align_corners)
            x = jnp.concatenate([x, low], axis=-1)
            x = SeparableConv(self.features, 5, dtype=self.dtype, name=f"fuse_{stage}")(x, train)
        return x


class Head(nn.Module):
    """A depthwise separable 5x5 convolution (child `conv`) and a 1x1 convolution (`predictor`).

    [B, h, w, C] -> [B, h, w, outputs]; called `(x, train)`. The predictor begins near zero, as in the reference.
    """

    features: int
    outputs: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = SeparableConv(self.features, 5, dtype=self.dtype, name="conv")(x, train)
        small = nn.initializers.normal(0.001)
        return Conv(self.outputs, 1, kernel_init=small, dtype=self.dtype, name="predictor")(x)


MODEL = PanopticDeepLab
