"""DeepLab v2.

Chen, Papandreou, Kokkinos, Murphy, Yuille. DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs. TPAMI 2018. arXiv:1606.00915.

What is particular: a ResNet-101 at output stride 8, atrous spatial pyramid pooling as the sum of classifiers that look
at different rates (section 3.2, figure 4), and an image pyramid: the same network at scales 1, 0.5 and 0.75, the
largest score of each pixel and class taken over the scales (section 3.2, "multiscale processing"). Each scale has its
own loss beside the fused one: the auxiliary logits, upsampled to the image here (kazuto1011 shrinks the labels),
to be weighted alike (`config.loss.aux_weight=1`). The dense CRF is `segjax evaluate --crf`.

* `resnet101` rates 6, 12, 18, 24 (ASPP-L), each a 3x3 convolution straight to the classes. The ResNet is Caffe's:
  stride in the first 1x1 convolution, rounded-up pool, and a dilated stage's rate from its first block on. Any image
  size works; sizes 8 k + 1 lie best on the grid.
* `resnet101-single` without the image pyramid.
* `vgg16` ASPP-L on VGG16, one scale: each rate has an fc6 of 3x3, fc7 and classifier of its own, 1024 channels
  (figure 7).

Trainable parameters with 21 classes: 44,048,532, with 182 (COCO-Stuff) 55,919,384, as kazuto1011/deeplab-pytorch;
statistics 105,344. `vgg16` 37,877,652, counted by layer. Multiply-adds at 513x513: 188.89 G, with the pyramid 344.88 G.
Accuracy, VOC 2012 val: 76.35 mean IoU, 77.69 with CRF (table 4; trained on COCO first).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import EncoderNetwork
from segjax.models.encoders.vgg import FullyConnected
from segjax.nn.conv import Conv
from segjax.ops.precision import widen
from segjax.ops.resize import resize

PAPER = "Chen, Papandreou, Kokkinos, Murphy, Yuille. DeepLab (v2). TPAMI 2018. arXiv:1606.00915"

_CAFFE = dict(stride_in_1x1=True, dilate_first=True, ceil_pool=True)

VARIANTS = {
    "resnet101": dict(encoder_options=_CAFFE),
    "resnet101-single": dict(encoder_options=_CAFFE, scales=()),
    "vgg16": dict(encoder="vgg16_plain", encoder_options=dict(window=3), fc_features=1024, scales=()),
    "test": dict(
        encoder="resnet_test", encoder_options=dict(dilate_first=True, ceil_pool=True), rates=(1, 2), scales=(0.5,)
    ),
}


class DeepLabV2(EncoderNetwork):
    """Images [B, H, W, C] of any size -> logits [B, H, W, K].

    Attributes:
      encoder: one that takes any size at output stride 8.
      rates: of the pyramid: (6, 12, 18, 24) is the paper's ASPP-L, (2, 4, 8, 12) its ASPP-S, (12,) its LargeFOV.
      fc_features: channels of the layers fc6 and fc7 of each rate; 0 for none.
      scales: of further copies of the image, below 1; empty for none.
      dropout: rate after fc6 and fc7.
    """

    encoder: str = "resnet101"
    rates: Sequence[int] = (6, 12, 18, 24)
    fc_features: int = 0
    scales: Sequence[float] = (0.5, 0.75)
    dropout: float = 0.5

    @property
    def stride(self) -> int:
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`. In training the auxiliary logits are those of the scales, 1 first.

        Raises:
          ModelError: an unknown encoder or field of it, a scale that is not between 0 and 1.
        """
        self.check_input(images)
        if not all(0 < scale < 1 for scale in self.scales):
            raise ModelError(f"DeepLabV2: scales={tuple(self.scales)}: give numbers between 0 and 1, the image is 1.")
        encoder = self.make_encoder((32,), output_stride=8)
        branches = [self._branch(rate) for rate in self.rates]

        def scores(x: jax.Array) -> jax.Array:
            x = encoder(x, train)[32]
            return widen(sum(branch(x, train) for branch in branches))

        first = scores(images)
        others = [scores(resize(images, scale=scale)) for scale in self.scales]
        fused = jnp.max(jnp.stack([first, *(resize(s, first.shape[1:3]) for s in others)]), axis=0)
        aux = [first, *others] if train and others else ()
        return self.outputs(fused, aux, size=images.shape[1:3])

    def _branch(self, rate: int):
        """(features [B, h, w, C], train) -> scores [B, h, w, K] at one rate."""
        classes, name = self.num_classes, f"aspp_{rate}"
        start = nn.initializers.normal(0.01)
        if not self.fc_features:
            conv = Conv(classes, 3, rate=rate, dtype=self.dtype, kernel_init=start, name=name)
            return lambda x, train: conv(x)
        fields = dict(dropout=self.dropout, dtype=self.dtype)
        layers = FullyConnected(self.fc_features, 3, rate, **fields, name=f"{name}_fc")
        classifier = Conv(classes, 1, dtype=self.dtype, kernel_init=start, name=name)
        return lambda x, train: classifier(layers(x, train))


MODEL = DeepLabV2
