"""OCRNet: object-contextual representations.

Yuhui Yuan, Xilin Chen, Jingdong Wang. Object-Contextual Representations for Semantic Segmentation. ECCV 2020.
arXiv:1909.11065.

Particular about it: context is gathered from objects, not from places. A first, supervised prediction gives each class
a soft region; the mean of the pixels under a region represents its object; each pixel attends to the K objects and is
joined with what it finds. On HRNetV2 at 1/4, or on a dilated ResNet at 1/8, whose soft regions come from the stage
before the last.

Held to, to the parameter (`tests/models/test_ocr.py`):

    hrnet-w48, `conv_bias`, 19 classes                70,372,678   HRNet/HRNet-Semantic-Segmentation, the authors'
    hrnet-w48, 19 classes                             70,371,446   mmsegmentation
    hrnet-w18, 19 classes                             12,080,036   mmsegmentation

The first prediction is an auxiliary output in training (weight 0.4). The authors' ResNet code (openseg.pytorch) has a
bias before each normalisation of the head, which that removes again; we have none (3,840 fewer parameters), and its
max-pool keeps partial windows (`ceil_pool`).

Accuracy, Cityscapes val, one scale: 81.6 mean IoU with HRNet-W48 (the authors' README and arXiv:1908.07919, table 3),
80.81 with ResNet-101 (mmsegmentation, 16 images a step, 80,000 steps).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv, ConvNorm
from segjax.nn.head import FCNHead
from segjax.ops.join import concatenated
from segjax.ops.precision import wide_type, widen

PAPER = "Yuan, Chen, Wang. Object-Contextual Representations. ECCV 2020. arXiv:1909.11065"

INPUT = (512, 1024, 19)

_RESNET = dict(joined_stages=False, output_stride=8, encoder_options=dict(stem="wide"))

VARIANTS = {
    "hrnet-w48": dict(),
    "hrnet-w18": dict(encoder="hrnet_w18"),
    "resnet101": dict(encoder="resnet101", **_RESNET),
    "resnet50": dict(encoder="resnet50", **_RESNET),
    "test": dict(encoder="hrnet_test", features=8, key_features=4),
}


class _ObjectAttention(nn.Module):
    """What each pixel finds among the objects; called `(x, objects, train)`.

    x [B, h, w, C], objects [B, K, 1, C] -> [B, h, w, C].

    Attributes:
      key_features: channels of queries, keys and values.
    """

    key_features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, objects: jax.Array, train: bool) -> jax.Array:
        def transformed(y, name, layers):
            for i in range(1, layers + 1):
                y = ConvNorm(self.key_features, 1, dtype=self.dtype, name=f"{name}{i}")(y, train)
            return y

        query = transformed(x, "query", 2)
        key = transformed(objects, "key", 2)[:, :, 0]
        value = transformed(objects, "value", 1)[:, :, 0]
        scores = jnp.einsum("bhwc,bkc->bhwk", query, key, preferred_element_type=wide_type(query.dtype))
        share = nn.softmax(scores * self.key_features**-0.5).astype(self.dtype)
        context = jnp.einsum("bhwk,bkc->bhwc", share, value)
        return ConvNorm(x.shape[-1], 1, dtype=self.dtype, name="out")(context, train)


class OCRNet(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of the stride -> logits [B, H, W, K]; the soft regions in training too.

    Attributes:
      joined_stages: pixels and regions are computed from all stages of the encoder, joined at stride 4, as the
        authors do with HRNet; else pixels from the stage at stride 32 and regions from that at 16.
      output_stride: of the encoder: 32 for HRNet, else 8 or 16.
      encoder_options: such as a ResNet's stem, multi_grid or ceil_pool.
      features: channels of pixels and objects.
      key_features: channels in which pixels and objects are compared.
      dropout: probability that a channel of the result is dropped.
      conv_bias: biases in two convolutions before their normalisation, as in the authors' HRNet code.
      align_corners: of every resize; false in mmsegmentation.
    """

    encoder: str = "hrnet_w48"
    joined_stages: bool = True
    output_stride: int = 32
    features: int = 512
    key_features: int = 256
    dropout: float = 0.05
    conv_bias: bool = False
    align_corners: bool = True

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        x, regions = self._pixels_and_regions(images, train)
        objects = _objects(x, regions)
        context = _ObjectAttention(self.key_features, self.dtype, name="attention")(x, objects, train)
        x = ConvNorm(self.features, 1, dtype=self.dtype, name="join")(jnp.concatenate([context, x], -1), train)
        x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        aux = [regions] if train else []
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)

    def _pixels_and_regions(self, images: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B, h, w, features] and the scores of the soft regions [B, h, w, K]."""
        fields = {"use_bias": self.conv_bias, "dtype": self.dtype}
        pixels = ConvNorm(self.features, 3, **fields, name="pixels")
        if self.joined_stages:
            stages = self.make_encoder(align_corners=self.align_corners)(images, train)
            x = concatenated([stages[stride] for stride in sorted(stages)], self.align_corners)
            regions = ConvNorm(x.shape[-1], 1, **fields, name="regions_conv")(x, train)
            return pixels(x, train), Conv(self.num_classes, 1, dtype=self.dtype, name="regions")(regions)
        if self.conv_bias:
            raise ModelError("conv_bias=True is the authors' HRNet layout: leave it out with joined_stages=False.")
        stages = self.stages(images, (16, 32), train)
        head = FCNHead(self.num_classes, self.features, self.dropout, dtype=self.dtype, name="regions")
        return pixels(stages[32], train), head(stages[16], train)


def _objects(x: jax.Array, regions: jax.Array) -> jax.Array:
    """The objects' representations: the mean of the pixels [B, h, w, C], weighted by the softmax of each
    class's scores [B, h, w, K] over the image. [B, K, 1, C]."""
    share = nn.softmax(widen(regions), axis=(1, 2)).astype(x.dtype)
    return jnp.einsum("bhwk,bhwc->bkc", share, x)[:, :, None]


MODEL = OCRNet
