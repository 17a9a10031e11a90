"""DUC-HDC: the image's resolution from channels, and rates without common factors.

Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell. Understanding Convolution for Semantic Segmentation. WACV 2018.
arXiv:1702.08502.

What is particular: dense upsampling convolution, one 3x3 convolution of the features at stride 8 to 64 scores a class,
rearranged into 8x8 pixels, so nothing is interpolated; and hybrid dilated convolution: the rates 1, 2, 5, 9 in the
third stage, over and over, and 5, 9, 17 in the fourth leave no pixel unseen, where equal rates leave a grid
("gridding").

Held to these published layouts, to the parameter; without hybrid rates (the `duc` variants) the counts are the same:

    resnet50, 19 classes    45,924,992   zijundeng/pytorch-semantic-segmentation, its ResNet-152 replaced
    resnet101, 19 classes   64,917,120   likewise
    resnet152, 19 classes   80,560,768   zijundeng/pytorch-semantic-segmentation

GMACs of those at 512x512: 191.47, 269.05, 332.94. As there, the scores pass batch normalisation and ReLU, so logits are
not negative.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import ConvNorm
from segjax.ops.space_to_depth import depth_to_space

PAPER = "Wang et al. Understanding Convolution for Semantic Segmentation (DUC, HDC). WACV 2018. arXiv:1702.08502"

_HDC = dict(stage_rates=((1,), (1,), (1, 2, 5, 9), (5, 9, 17)))
_DUC = dict(dilate_first=True)

VARIANTS = {
    "resnet152": dict(encoder="resnet152", encoder_options=_HDC),
    "resnet50": dict(encoder="resnet50", encoder_options=_HDC),
    "resnet101": dict(encoder="resnet101", encoder_options=_HDC),
    "resnet50-duc": dict(encoder="resnet50", encoder_options=_DUC),
    "resnet101-duc": dict(encoder="resnet101", encoder_options=_DUC),
    "resnet152-duc": dict(encoder="resnet152", encoder_options=_DUC),
    "test": dict(encoder="resnet_test", encoder_options=_HDC),
}

# A bias before batch normalisation, which takes it away again.
ZERO_GRADIENT = {"test": "^duc/conv/bias$"}


class DUCHDC(EncoderNetwork):
    """A ResNet with hybrid rates and dense upsampling. Images [B, H, W, C], H and W multiples of the output stride ->
    logits [B, H, W, K].

    Attributes:
      encoder_options: a ResNet's `stage_rates` are the hybrid rates.
      output_stride: of the encoder, and the upsampling.
    """

    encoder: str = "resnet152"
    output_stride: int = 8

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks the output stride or a field asked for.
        """
        scores = self.output_stride**2 * self.num_classes
        x = self.stages(images, (32,), train)[32]
        x = ConvNorm(scores, 3, use_bias=True, dtype=self.dtype, name="duc")(x, train)
        return self.outputs(depth_to_space(x, self.output_stride))


MODEL = DUCHDC
