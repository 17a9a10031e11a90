"""FCN: fully convolutional networks, FCN-32s, FCN-16s and FCN-8s.

Long, Shelhamer, Darrell. Fully Convolutional Networks for Semantic Segmentation. CVPR 2015. arXiv:1411.4038; extended
in TPAMI 2017, arXiv:1605.06211.

What is particular: VGG16 with its fully connected layers as convolutions scores every 32nd pixel; transposed
convolutions that start as bilinear interpolation upsample the scores, and on the way scores of pool4 (16s) and pool3
(8s) are added. As in the authors' Caffe networks, the image gets a border of 100 zeros so that the 7x7 fc6 fits however
small it is, poolings keep their last, partial windows, and nothing else is padded. So any image size works, but maps
must be cropped to lie on each other. With a border of P, pixel i of a map has its centre on the image's pixel

    pool3          8 i +   4.5 - P        pool4   16 i +  8.5 - P
    fc7           32 i + 112.5 - P        fc7 upsampled twice   16 i + 88.5 - P     that sum, twice   8 i + 76.5 - P

so pool4 is cut from its pixel 5 on, pool3 from 9 on, and the result from P - 81 (32s), P - 73 (16s) or P - 69 (8s) on:
19, 27, 31 with P = 100.

* `8s`, `16s`, `32s` the authors train in stages, each net from the coarser one: `config.init`, or `8s-atonce`, which
  trains in one go because pool4 and pool3 are scaled by 0.01 and 0.0001 before they are scored (the authors' code).

The transposed convolutions are learned here. In Caffe their learning rate is 0 in most of these networks:
`config.optim.multipliers={"^up": 0}`.

Trainable parameters with 21 classes, wkentaro/pytorch-fcn and the authors' Caffe networks: 32s 136,152,917; 16s
134,815,994; 8s and 8s-atonce 134,489,759 (Caffe's 8s-atonce counts two scale layers, 768 constants, more).
Multiply-adds at 512x512: 190.19, 190.28, 190.37 G. Accuracy: mean IoU, FCN-32s 63.6, 16s 65.0, 8s 65.5, 8s-atonce 65.4
(shelhamer/fcn.berkeleyvision.org) on seg11valid: what of VOC 2011 val SBD does not train on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from segjax.core.errors import ModelError
from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv, UpConv, bilinear_upsampling
from segjax.ops.border import border, crop

PAPER = "Long, Shelhamer, Darrell. Fully Convolutional Networks. CVPR 2015. arXiv:1411.4038"

VARIANTS = {
    "8s": dict(),
    "16s": dict(skips=(16,)),
    "32s": dict(skips=()),
    "8s-atonce": dict(skip_scales=(0.01, 0.0001)),
    "test": dict(encoder="vgg_test", fc_features=8),
}

_FC6, _DEEPEST = 7, 32
_SKIP_CROP = {16: 5, 8: 9}


class FCN(EncoderNetwork):
    """FCN.

    Attributes:
      encoder: a VGG.
      fc_features: channels of fc6 and fc7.
      skips: strides of the poolings whose scores are added, coarsest first: (16, 8), (16,) or none.
      skip_scales: what each of those poolings is multiplied by before it is scored.
      border: zeros around the image, at least 81 to 69 (`skips`), or the upsampled scores do not reach its first pixel;
        below 97 fc6 does not fit the smallest images.
      first_up_bias: a bias in the first transposed convolution, as in the network under CRF-as-RNN.
      dropout: rate after fc6 and fc7.
    """

    encoder: str = "vgg16_plain"
    fc_features: int = 4096
    skips: Sequence[int] = (16, 8)
    skip_scales: Sequence[float] = (1.0, 1.0)
    border: int = 100
    first_up_bias: bool = False
    dropout: float = 0.5

    @property
    def stride(self) -> int:
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: skips other than those above, a border too small.
        """
        self.check_input(images)
        if tuple(self.skips) not in ((16, 8), (16,), ()):
            raise ModelError(f"FCN: skips={tuple(self.skips)} is not one of (16, 8), (16,), ().")
        first, stride = self._first()
        if first < 0:
            raise ModelError(f"FCN: border={self.border} is too small: use at least {self.border - first}.")
        pools, x = self._encode(images.astype(self.dtype), train)
        scores = self._score(x, "score")
        for i, skip in enumerate(self.skips):
            scores = self._up(scores, 2, f"up{skip}", self.first_up_bias and i == 0)
            skipped = self._score(pools[skip] * self.skip_scales[i], f"score{skip}")
            scores = scores + crop(skipped, (_SKIP_CROP[skip],) * 2, scores.shape[1:3])
        upsampled = self._up(scores, stride, "up_image", False)
        return self.outputs(crop(upsampled, (first, first), images.shape[1:3]))

    def _first(self) -> tuple[int, int]:
        """Where the image begins in the upsampled scores, and the stride of the last transposed convolution."""
        stride = self.skips[-1] if self.skips else _DEEPEST
        # Centres of the scores before it: half a pixel more than the strides times those above.
        first = {32: 112.5, 16: 88.5, 8: 76.5}[stride] - self.border
        return int(stride - 0.5 - first), stride

    def _encode(self, x: jax.Array, train: bool) -> tuple[dict[int, jax.Array], jax.Array]:
        """The poolings by stride, and fc7."""
        fc = dict(features=self.fc_features, kernel_size=_FC6, padding="valid", dropout=self.dropout)
        encoder = self.make_encoder(output_stride=_DEEPEST, ceil_pool=True, fc=fc)
        # The first convolution pads one of these itself.
        around = (self.border - 1, self.border - 1)
        x = border(x, around, around)
        pools = {}
        for i in range(len(encoder.depths)):
            pools[2 ** (i + 1)] = x = encoder.pool(encoder.stage(x, i, train), i)
        return pools, encoder.fully_connected(x, train)

    def _score(self, x: jax.Array, name: str) -> jax.Array:
        # Zero at first, as the authors': the coarser network's result is where training starts.
        return Conv(self.num_classes, 1, dtype=self.dtype, kernel_init=nn.initializers.zeros, name=name)(x)

    def _up(self, scores: jax.Array, stride: int, name: str, bias: bool) -> jax.Array:
        fields = dict(use_bias=bias, dtype=self.dtype, kernel_init=bilinear_upsampling)
        return UpConv(self.num_classes, 2 * stride, stride, **fields, name=name)(scores)


MODEL = FCN
