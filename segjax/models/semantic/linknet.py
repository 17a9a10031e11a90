"""LinkNet: a ResNet-18 and a decoder of bottlenecks to which the encoder's stages are added.

Chaurasia, Culurciello. LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation. VCIP 2017.
arXiv:1707.03718. Layout: e-lab/pytorch-linknet.

What is particular: skips are sums rather than concatenations, so that the decoder stays as narrow as the encoder, and
each decoder block works on a quarter of the channels (1x1, 3x3 transposed, 1x1 convolution).

Held to the authors' e-lab/pytorch-linknet, to the parameter: 11,535,957 at 21 classes, 10.89 GMACs at 512x512 (the
paper: 11.5M). As there, the last link is from the stem after its max-pool, and decoder block 1 has stride 1. Its
LogSoftmax is left to the loss.

Accuracy (e-lab/pytorch-linknet, best of a run): Cityscapes val 76.4 mean IoU; CamVid 69.1.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import ConvNorm, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import max_pool

PAPER = "Chaurasia, Culurciello. LinkNet. VCIP 2017. arXiv:1707.03718"
INPUT = (512, 512, 21)

VARIANTS = {
    "resnet18": dict(),
    "resnet34": dict(encoder="resnet34"),
    "test": dict(encoder="resnet_test", features=4),
}
# A convolution's bias is removed by the normalisation after it.
ZERO_GRADIENT = {"test": r"^(last_conv/conv|last_up/up)/bias$"}


class UpConvNorm(nn.Module):
    """Transposed 3x3 convolution to `stride` times the size, normalisation, ReLU; called `(x, train)`."""

    features: int
    stride: int = 2
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        window = {"stride": self.stride, "padding": 1, "output_padding": self.stride - 1}
        x = UpConv(self.features, 3, **window, use_bias=self.use_bias, dtype=self.dtype, name="up")(x)
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train))


class DecoderBlock(nn.Module):
    """[B, H, W, C] -> [B, stride * H, stride * W, features] on a quarter of C; called `(x, train)`."""

    features: int
    stride: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        inner = x.shape[-1] // 4
        x = ConvNorm(inner, 1, dtype=self.dtype, name="reduce")(x, train)
        x = UpConvNorm(inner, self.stride, dtype=self.dtype, name="up")(x, train)
        return ConvNorm(self.features, 1, dtype=self.dtype, name="expand")(x, train)


class LinkNet(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: a ResNet.
      features: channels of the last two convolutions.
    """

    encoder: str = "resnet18"
    features: int = 32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for.
        """
        stages = self.stages(images, (2, 4, 8, 16, 32), train)
        x = stages[32]
        for i, stride in ((4, 16), (3, 8), (2, 4)):
            block = DecoderBlock(stages[stride].shape[-1], dtype=self.dtype, name=f"decoder{i}")
            x = stages[stride] + block(x, train)
        start = max_pool(stages[2], 3, 2, padding=1)
        x = start + DecoderBlock(start.shape[-1], 1, self.dtype, name="decoder1")(x, train)
        x = UpConvNorm(self.features, use_bias=True, dtype=self.dtype, name="last_up")(x, train)
        x = ConvNorm(self.features, use_bias=True, dtype=self.dtype, name="last_conv")(x, train)
        return self.outputs(UpConv(self.num_classes, dtype=self.dtype, name="logits")(x))


MODEL = LinkNet
