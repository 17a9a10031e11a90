"""SegNet, SegNet-Basic and Bayesian SegNet.

Badrinarayanan, Kendall, Cipolla. SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation.
TPAMI 2017. arXiv:1511.00561.
SegNet-Basic: Badrinarayanan, Handa, Cipolla. 2015. arXiv:1505.07293.
Bayesian SegNet: Kendall, Badrinarayanan, Cipolla. BMVC 2017. arXiv:1511.02680.

What is particular: the encoder is VGG16 with batch normalisation; each max-pooling remembers where its maxima stood,
and the mirrored decoder puts the values back there before its convolutions. Nothing else is carried across. Any image
size works: an odd size is pooled by ceiling and unpooled to what it was (360x480 goes down to 12x15).

* `vgg16` 13 + 13 convolutions of 3x3; the very last gives the logits, without normalisation or ReLU.
* `basic` 4 + 4 convolutions of 7x7 and 64 channels, no ReLU in the decoder, a 1x1 classifier after it.
* `bayesian`, `bayesian-basic` dropout of 0.5 after the deepest levels, encoder and decoder (the paper's "central"
  choice; which levels, as in the authors' Caffe files). `sample=True` draws from the dropout with the running
  statistics of the normalisation: `segjax.inference.monte_carlo` averages such samples.

Published figures. Trainable parameters of the authors' Caffe network: 29,449,355 with 11 classes, 29,455,125 with 21.
They count a bias in every convolution, 7,936 of them directly before a batch normalisation, which removes them again:
their gradient is zero in training. `vgg16` leaves those out (29,441,419 and 29,447,189); `caffe` has them, for the
authors' weights. SegNet-Basic has 1,416,075 parameters with 11 classes, 512 fewer than their Caffe file for the same
reason. Accuracy: CamVid test, 11 classes, 55.6 mean IoU (the README of sacmehta/ESPNet); Cityscapes val 60.09
(PaddleSeg).
"""

from __future__ import annotations

import flax.linen as nn
import jax

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.models.encoders.vgg import VGG, ConvStack
from segjax.nn.conv import Conv
from segjax.ops.pooling import max_pool_argmax
from segjax.ops.unpool import max_unpool

PAPER = "Badrinarayanan, Kendall, Cipolla. SegNet. TPAMI 2017. arXiv:1511.00561"
INPUT = (360, 480, 11)

VARIANTS = {
    "vgg16": dict(),
    "caffe": dict(conv_bias=True),
    "basic": dict(depths=(1, 1, 1, 1), widths=(64,) * 4, kernel_size=7, decoder_relu=False, extra_classifier=True),
    "bayesian": dict(dropout=0.5, dropped_levels=(2, 3, 4)),
    "bayesian-basic": dict(
        depths=(1, 1, 1, 1),
        widths=(64,) * 4,
        kernel_size=7,
        decoder_relu=False,
        extra_classifier=True,
        dropout=0.5,
        dropped_levels=(2, 3),
    ),
    "test": dict(depths=(1, 2, 1), widths=(4, 6, 8)),
}

ZERO_GRADIENT = {"caffe": r"/conv\d/conv/bias$"}
"""By variant, the parameters (a pattern on their path) that no training loss can move, and why: see above."""


class SegNet(ImageNetwork):
    """SegNet.

    Attributes:
      depths: convolutions of each level, encoder and decoder.
      widths: channels of each level.
      kernel_size: of every convolution but an extra classifier's.
      decoder_relu: ReLU after each normalisation of the decoder too.
      extra_classifier: a 1x1 convolution after the last decoder convolution gives the logits; otherwise that
        convolution gives them itself.
      conv_bias: biases in the convolutions before a normalisation.
      dropout: rate after the levels `dropped_levels`; 0 for none.
      dropped_levels: levels from 0, each dropped after its pooling and after its decoder, but for level 0's decoder.
    """

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    kernel_size: int = 3
    decoder_relu: bool = True
    extra_classifier: bool = False
    conv_bias: bool = False
    dropout: float = 0.0
    dropped_levels: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False, sample: bool = False) -> dict:
        """See `ImageNetwork`. With `sample`, dropout is active though `train` is false: one Monte Carlo sample.

        Raises:
          ModelError: `sample` of a network without dropout; channels other than `in_channels`.
        """
        if sample and not (self.dropout and self.dropped_levels):
            raise ModelError("sample=True needs dropout to sample from: use segnet/bayesian or set dropout.")
        self.check_input(images)
        x, codes, sizes = self._encode(images, train, not (train or sample))
        x = self._decode(x, codes, sizes, train, not (train or sample))
        size = 1 if self.extra_classifier else self.kernel_size
        return self.outputs(Conv(self.num_classes, size, dtype=self.dtype, name="classifier")(x))

    def _encode(self, x: jax.Array, train: bool, deterministic: bool):
        encoder = VGG(
            2 ** len(self.depths),
            self.dtype,
            self.depths,
            self.widths,
            self.kernel_size,
            self.conv_bias,
            name="encoder",
        )
        codes, sizes = [], []
        for level in range(len(self.depths)):
            x = encoder.stage(x, level, train)
            sizes.append(x.shape[1:3])
            x, code = max_pool_argmax(x)
            codes.append(code)
            x = self._drop(x, level, deterministic)
        return x, codes, sizes

    def _decode(self, x: jax.Array, codes: list, sizes: list, train: bool, deterministic: bool) -> jax.Array:
        for level in reversed(range(len(self.depths))):
            x = max_unpool(x, codes[level], sizes[level])
            # A level's last convolution already has the channels of the level above it.
            widths = (self.widths[level],) * (self.depths[level] - 1)
            if level > 0:
                widths += (self.widths[level - 1],)
            elif self.extra_classifier:
                widths += (self.widths[0],)
            x = ConvStack(
                widths,
                self.kernel_size,
                act=nn.relu if self.decoder_relu else None,
                conv_bias=self.conv_bias,
                dtype=self.dtype,
                name=f"decoder{level + 1}",
            )(x, train)
            if level > 0:
                x = self._drop(x, level, deterministic)
        return x

    def _drop(self, x: jax.Array, level: int, deterministic: bool) -> jax.Array:
        if not self.dropout or level not in self.dropped_levels:
            return x
        return nn.Dropout(self.dropout, deterministic=deterministic)(x)


MODEL = SegNet
