"""DeepLab v1: DeepLab-LargeFOV and DeepLab-MSc-LargeFOV.

Chen, Papandreou, Kokkinos, Murphy, Yuille. Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected
CRFs. ICLR 2015. arXiv:1412.7062.

What is particular: VGG16 without the strides of its last two poolings ("hole algorithm", section 3.1), so that it
scores every 8th pixel; fc6 is a 3x3 convolution at rate 12, of 1024 channels instead of 4096 (section 5, LargeFOV),
after a 3x3 mean; then ordinary bilinear upsampling, and a dense CRF (`segjax evaluate --crf`). The poolings are 3x3
and undilated, so pixel i of the scores lies exactly on the image's pixel 8 i. The last ones may lie up to 7 pixels
beyond an image whose sides are not 8 k + 1; the upsampled scores are cut there, so any size works.

* `largefov`
* `msc-largefov` multi-scale prediction (section 4.3): the image and the first four poolings are scored as well, each by
  a 3x3 and two 1x1 convolutions of 128 channels, and all scores added.

Trainable parameters with 21 classes, the authors' Caffe networks: largefov 20,505,429, msc-largefov 21,711,550.
Multiply-adds at 513x513: 128.58 G; with multi-scale prediction 133.68 G, because the 3x3 convolutions step over what is
not scored (147.31 G for the authors' file, which is what the branches cost at each map's own resolution). Accuracy, VOC
2012 val: mean IoU 62.25 and 64.21, with CRF 67.64 and 68.70 (table 1).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.nn.head import upsample_from_grid
from segjax.ops.pooling import avg_pool

PAPER = "Chen, Papandreou, Kokkinos, Murphy, Yuille. DeepLab (v1). ICLR 2015. arXiv:1412.7062"

VARIANTS = {
    "largefov": dict(),
    "msc-largefov": dict(side_features=128),
    "test": dict(encoder="vgg_test", fc_features=8, fc_rate=2, side_features=4),
}

_STRIDE = 8


class DeepLabV1(EncoderNetwork):
    """Images [B, H, W, C] of any size -> logits [B, H, W, K].

    Attributes:
      encoder: a VGG.
      fc_features: channels of fc6 and fc7.
      fc_rate: of fc6.
      side_features: channels of the branches on the image and the first four poolings; 0 for no such branches.
      dropout: rate after fc6, fc7 and the branches' convolutions.
    """

    encoder: str = "vgg16_plain"
    fc_features: int = 1024
    fc_rate: int = 12
    side_features: int = 0
    dropout: float = 0.5

    @property
    def stride(self) -> int:
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        fc = dict(features=self.fc_features, kernel_size=3, rate=self.fc_rate, dropout=self.dropout)
        encoder = self.make_encoder(output_stride=_STRIDE, window=3, fc=fc)
        x, maps = images.astype(self.dtype), [images.astype(self.dtype)]
        for i in range(len(encoder.depths)):
            x = encoder.pool(encoder.stage(x, i, train), i)
            maps.append(x)
        x = encoder.fully_connected(avg_pool(x, 3, 1, padding=1), train)
        scores = self._score(x, "score")
        if self.side_features:
            for i, side in enumerate(maps[:-1]):
                stride = max(1, _STRIDE // 2**i)
                scores = scores + self._side(side, stride, scores.shape[1:3], f"side{i}", train)
        return self.outputs(upsample_from_grid(scores, _STRIDE, images.shape[1:3]))

    def _side(self, x: jax.Array, stride: int, size: tuple[int, int], name: str, train: bool) -> jax.Array:
        """`size` scores of every `stride`-th pixel of a map, the last ones perhaps beyond its end."""
        padding = tuple((1, max(1, stride * (n - 1) + 2 - m)) for n, m in zip(size, x.shape[1:3]))
        for i, (kernel, step, around) in enumerate([(3, stride, padding), (1, 1, 0)]):
            fields = dict(padding=around, dtype=self.dtype, name=f"{name}_conv{i + 1}")
            conv = Conv(self.side_features, kernel, step, **fields)
            x = nn.Dropout(self.dropout, deterministic=not train)(nn.relu(conv(x)))
        return self._score(x, f"{name}_score")

    def _score(self, x: jax.Array, name: str) -> jax.Array:
        start = nn.initializers.normal(0.01)
        return Conv(self.num_classes, 1, dtype=self.dtype, kernel_init=start, name=name)(x)


MODEL = DeepLabV1
