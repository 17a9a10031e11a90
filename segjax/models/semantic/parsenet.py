"""ParseNet.

Liu, Rabinovich, Berg. ParseNet: Looking Wider to See Better. ICLR 2016 workshop. arXiv:1506.04579.

What is particular: the mean of the last features over the whole image is joined to every pixel's features ("context").
Both are first scaled to unit length and then multiplied by a learned factor a channel, or the larger of them would
drown the other. Joining them and scoring the result by a 1x1 convolution is scoring each and adding ("early fusion");
so the context is scored once an image.

The base is DeepLab-LargeFOV's VGG16 (without the mean before fc6), at every 8th pixel. The factors start at 10.

No reference implementation is held to. Trainable parameters with 21 classes, counted by layer: 20,528,981, which is
DeepLab-LargeFOV's 20,505,429 with 21 * 1024 weights for the context and 2 * 1024 factors. Accuracy, VOC 2012 test: 69.8
mean IoU.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.nn.head import upsample_from_grid
from segjax.ops.pooling import global_avg_pool
from segjax.ops.precision import widen

PAPER = "Liu, Rabinovich, Berg. ParseNet: Looking Wider to See Better. ICLR 2016 workshop. arXiv:1506.04579"

VARIANTS = {
    "vgg16": dict(),
    "baseline": dict(context=False),
    "test": dict(encoder="vgg_test", fc_features=8, fc_rate=2),
}

_STRIDE = 8


class UnitLength(nn.Module):
    """x / |x|, the length over the channels of a pixel, times a learned factor a channel (`scale` [C]).

    Attributes:
      start: of the factors.
      dtype: of the result; the length is taken in float32.
    """

    start: float = 10.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],), jnp.float32)
        x = widen(x)
        # Zeros after a ReLU are common: without the constant their gradient is NaN.
        return (x * jax.lax.rsqrt(jnp.sum(x * x, -1, keepdims=True) + 1e-10) * scale).astype(self.dtype)


class ParseNet(EncoderNetwork):
    """Images [B, H, W, C] of any size -> logits [B, H, W, K].

    Attributes:
      encoder: a VGG.
      fc_features: channels of fc6 and fc7.
      fc_rate: of fc6, a 3x3 convolution.
      context: join the features' mean; without it there are no factors either.
      dropout: rate after fc6 and fc7.
    """

    encoder: str = "vgg16_plain"
    fc_features: int = 1024
    fc_rate: int = 12
    context: bool = True
    dropout: float = 0.5

    @property
    def stride(self) -> int:
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        fc = dict(features=self.fc_features, kernel_size=3, rate=self.fc_rate, dropout=self.dropout)
        encoder = self.make_encoder(output_stride=_STRIDE, window=3, fc=fc)
        x = encoder(images.astype(self.dtype), train)[32]
        fields = dict(dtype=self.dtype, kernel_init=nn.initializers.normal(0.01))
        score = Conv(self.num_classes, 1, **fields, name="score")
        if not self.context:
            return self.outputs(upsample_from_grid(score(x), _STRIDE, images.shape[1:3]))
        context = UnitLength(dtype=self.dtype, name="context_length")(global_avg_pool(x))
        scores = score(UnitLength(dtype=self.dtype, name="length")(x))
        scores = scores + Conv(self.num_classes, 1, use_bias=False, **fields, name="context_score")(context)
        return self.outputs(upsample_from_grid(scores, _STRIDE, images.shape[1:3]))


MODEL = ParseNet
