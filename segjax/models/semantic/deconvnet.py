"""DeconvNet.

Noh, Hong, Han. Learning Deconvolution Network for Semantic Segmentation. ICCV 2015. arXiv:1505.04366.

What is particular: VGG16 with batch normalisation and its fully connected layers as convolutions, fc6 of 7x7 without
padding, so that a 224x224 image becomes a single vector; then the mirror image of all that, a 7x7 transposed
convolution from the vector back to 7x7 and five levels that unpool to where the maxima stood. A larger image gets as
many vectors as windows of 7x7 fit its deepest map; one whose deepest map is smaller gets zeros around it. The other
"deconvolutions" have stride 1: convolutions, whose kernels are the mirrored ones of the authors' file.

The authors train on boxes around objects, then on proposals, and take each score's maximum over the proposals.

Trainable parameters with 21 classes, the authors' Caffe network: 251,805,653, variant `caffe`. 16,704 of them are
biases directly before a batch normalisation, which removes them again: `vgg16` has none. Multiply-adds at 224x224:
32.75 G.
Accuracy, VOC 2012 test: mean IoU 69.6, with FCN-8s in an ensemble 71.7, with CRF 72.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import ImageNetwork
from segjax.models.encoders.vgg import VGG, ConvStack
from segjax.nn.conv import Conv, ConvNorm, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import max_pool_argmax
from segjax.ops.unpool import max_unpool

PAPER = "Noh, Hong, Han. Learning Deconvolution Network for Semantic Segmentation. ICCV 2015. arXiv:1505.04366"

VARIANTS = {
    "vgg16": dict(),
    "caffe": dict(conv_bias=True),
    "test": dict(depths=(1, 2), widths=(4, 6), fc_features=8, fc_kernel=3),
}


class DeconvNet(ImageNetwork):
    """Images [B, H, W, C] of any size -> logits [B, H, W, K].

    Attributes:
      depths: convolutions of each level, encoder and decoder.
      widths: channels of each level.
      fc_features: channels of fc6 and fc7.
      fc_kernel: of fc6 and of its mirror image.
      conv_bias: biases in the convolutions before a normalisation.
    """

    depths: Sequence[int] = (2, 2, 3, 3, 3)
    widths: Sequence[int] = (64, 128, 256, 512, 512)
    fc_features: int = 4096
    fc_kernel: int = 7
    conv_bias: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        levels = range(len(self.depths))
        fields = dict(depths=tuple(self.depths), widths=tuple(self.widths), conv_bias=self.conv_bias)
        encoder = VGG(2 ** len(levels), self.dtype, **fields, name="encoder")
        x, codes, sizes = images.astype(self.dtype), [], []
        for level in levels:
            x = encoder.stage(x, level, train)
            sizes.append(x.shape[1:3])
            x, code = max_pool_argmax(x)
            codes.append(code)
        x = self._fully_connected(x, train)
        for level in reversed(levels):
            x = max_unpool(x, codes[level], sizes[level])
            # A level's last convolution has the channels of the level above.
            widths = (self.widths[level],) * (self.depths[level] - 1) + (self.widths[max(level - 1, 0)],)
            stack = ConvStack(widths, conv_bias=self.conv_bias, dtype=self.dtype, name=f"decoder{level + 1}")
            x = stack(x, train)
        return self.outputs(Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x))

    def _fully_connected(self, x: jax.Array, train: bool) -> jax.Array:
        """fc6, fc7 and the transposed convolution that undoes fc6: the map's size and channels stay."""
        height, width, channels = x.shape[1:]
        missing = ((0, max(0, self.fc_kernel - height)), (0, max(0, self.fc_kernel - width)))
        x = jnp.pad(x, ((0, 0), *missing, (0, 0)))
        fields = dict(use_bias=self.conv_bias, dtype=self.dtype)
        x = ConvNorm(self.fc_features, self.fc_kernel, padding="valid", **fields, name="fc6")(x, train)
        x = ConvNorm(self.fc_features, 1, **fields, name="fc7")(x, train)
        x = UpConv(channels, self.fc_kernel, 1, **fields, name="fc6_up")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="fc6_up_norm")(x, train))
        return x[:, :height, :width]


MODEL = DeconvNet
