"""Dilation8 and its relatives: a VGG front end and a context module of dilated convolutions.

Yu, Koltun. Multi-Scale Context Aggregation by Dilated Convolutions. ICLR 2016. arXiv:1511.07122.

What is particular: the front end is VGG16 without its last two poolings, conv5 at rate 2, fc6 (7x7) at rate 4 (section
4). The context module works on the scores: 3x3 convolutions whose rate doubles, so that they see far at full
resolution, and that start as the identity (section 3, table 1). Nothing in the front end is padded; instead the image
is mirrored at its border, by 186 pixels of which nothing is left at the end (the authors' code). So H and W are
multiples of 8, and pixel i of the scores is the block of 8x8 pixels i of the image.

* `dilation8` the basic module of eight layers, each with as many channels as classes, as on CamVid; `dilation7` (KITTI)
  and `dilation10` (Cityscapes) have rates up to 8 and 64.
* `dilation8-large` (VOC): 2, 2, 4, 8, 16, 32, 32 times as many channels as classes; the scores are padded once, by 33
  zeros, rather than at each layer.
* `front-end` no context module.

Trainable parameters, the authors' Caffe networks: dilation8 with 11 classes 134,313,443; dilation7 134,312,343;
dilation8-large with 21 classes 141,149,720; dilation10 with 19 classes 134,368,179, and in their file 4,864 more for a
transposed convolution whose learning rate is 0: here as in their other networks the upsampling is bilinear and has no
parameters. Accuracy, mean IoU: VOC 2012 val, front end 69.8, basic 71.3, large 72.1, trained on COCO too (table 3);
CamVid test, dilation8, 65.3 (table 5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError
from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.ops.border import border, mirror

PAPER = "Yu, Koltun. Multi-Scale Context Aggregation by Dilated Convolutions. ICLR 2016. arXiv:1511.07122"

VARIANTS = {
    "dilation8": dict(),
    "dilation7": dict(rates=(1, 1, 2, 4, 8, 1)),
    "dilation10": dict(rates=(1, 1, 2, 4, 8, 16, 32, 64, 1)),
    "dilation8-large": dict(widths=(2, 2, 4, 8, 16, 32, 32), pad_once=True),
    "front-end": dict(rates=()),
    "test": dict(encoder="vgg_test", fc_features=8, fc_kernel=3, rates=(1, 2, 1), widths=(1, 2, 2)),
}

_STRIDE, _POOLS, _FC6_RATE = 8, 3, 4


class Dilation(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 8 -> logits [B, H, W, K].

    Attributes:
      encoder: a VGG.
      fc_features: channels of fc6 and fc7.
      fc_kernel: of fc6.
      rates: of the context module's 3x3 convolutions; a 1x1 convolution follows them. Empty for no such module.
      widths: their channels, in multiples of the classes; empty for 1 each.
      pad_once: one border of zeros around the scores instead of one at each convolution of the context module.
      dropout: rate after fc6 and fc7.
    """

    encoder: str = "vgg16_plain"
    fc_features: int = 4096
    fc_kernel: int = 7
    rates: Sequence[int] = (1, 1, 2, 4, 8, 16, 1)
    widths: Sequence[int] = ()
    pad_once: bool = False
    dropout: float = 0.5

    @property
    def stride(self) -> int:
        return _STRIDE

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: as many widths as rates are needed, or none.
        """
        self.check_input(images)
        if self.widths and len(self.widths) != len(self.rates):
            raise ModelError(f"Dilation: {len(self.widths)} widths for {len(self.rates)} rates: give one each.")
        start = nn.initializers.normal(0.001)
        x = self._front_end(images.astype(self.dtype), train)
        scores = Conv(self.num_classes, 1, dtype=self.dtype, kernel_init=start, name="score")(x)
        if self.rates:
            scores = self._context(scores)
        return self.outputs(scores, size=images.shape[1:3])

    def _front_end(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H / 8, W / 8, fc_features]."""
        fc = dict(
            features=self.fc_features, kernel_size=self.fc_kernel, rate=_FC6_RATE, padding="valid", dropout=self.dropout
        )
        encoder = self.make_encoder(padding="valid", fc=fc)
        # What valid convolutions eat of a score map on both sides together, taken back to the image.
        eaten = (self.fc_kernel - 1) * _FC6_RATE
        for i, (depth, pool) in reversed(list(enumerate(zip(encoder.depths, encoder.pools, strict=True)))):
            eaten = eaten * (2 if i < _POOLS else 1) + depth * (encoder.kernel_size - 1) * pool.first_rate
        around = (eaten // 2, eaten // 2)
        x = mirror(x, around, around)
        for i in range(len(encoder.depths)):
            x = encoder.stage(x, i, train)
            # Without their stride the last two poolings are left out, not dilated.
            x = encoder.pool(x, i) if i < _POOLS else x
        return encoder.fully_connected(x, train)

    def _context(self, x: jax.Array) -> jax.Array:
        classes = self.num_classes
        start = _identity(classes)
        if self.pad_once:
            around = (sum(self.rates), sum(self.rates))
            x = border(x, around, around)
        padding = "valid" if self.pad_once else "same"
        for i, (rate, width) in enumerate(zip(self.rates, self.widths or (1,) * len(self.rates))):
            fields = dict(rate=rate, padding=padding, dtype=self.dtype, kernel_init=start, name=f"context{i + 1}")
            x = nn.relu(Conv(width * classes, 3, **fields)(x))
        return Conv(classes, 1, dtype=self.dtype, kernel_init=start, name="context_score")(x)


def _identity(classes: int, deviation: float = 0.01) -> Callable[..., jax.Array]:
    """The paper's equations 4 and 5: each of a class's c' output channels is the sum of that class's c input channels,
    divided by c', so that the whole module changes nothing; and noise where the kernel would be 0."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        rows, columns, before, after = shape
        source, target = (np.arange(n) * classes // n for n in (before, after))
        same = np.zeros(shape)
        same[rows // 2, columns // 2] = (source[:, None] == target) * (classes / after)
        noise = jax.random.normal(key, shape, dtype) * (deviation * classes / after)
        return jnp.where(same > 0, jnp.asarray(same, dtype), noise)

    return init


MODEL = Dilation
