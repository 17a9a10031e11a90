"""HRNetV2: semantic segmentation that never leaves high resolution.

Ke Sun, Yang Zhao, Borui Jiang, Tianheng Cheng, Bin Xiao, Dong Liu, Yadong Mu, Xinggang Wang, Wenyu Liu, Jingdong Wang.
High-Resolution Representations for Labeling Pixels and Regions. 2019. arXiv:1904.04514; also TPAMI 2021,
arXiv:1908.07919, sections 3.3 and 5.

Particular about it: four resolutions from 1/4 to 1/32 side by side from early on, each fed by all others after every
few blocks (`segjax/models/encoders/hrnet.py`); the head upsamples them all to 1/4, joins them and classifies by two 1x1
convolutions.

Held to, to the parameter (`tests/models/test_hrnet.py`):

    w48, `conv_bias`, 19 classes     65,859,379   HRNet/HRNet-Semantic-Segmentation, the authors'
    w48, 19 classes                  65,858,659   mmsegmentation
    w18, 19 classes                   9,640,849   mmsegmentation

The authors give the head's first convolution a bias, which the normalisation behind it removes again; mmsegmentation
leaves it out, as we do by default. The authors' resizes have `align_corners`, mmsegmentation's have not.

arXiv:1908.07919, table 3, for w48: 65.9 M parameters; 696.2 "GFLOPs" at 1024x2048, which are our 747.5 G multiply-adds
over 2^30; Cityscapes val 81.1 mean IoU.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.nn.join import JoinNorm

PAPER = "Sun, Zhao, Jiang, Cheng, Xiao, Liu, Mu, Wang, Liu, Wang. HRNetV2. 2019. arXiv:1904.04514"

INPUT = (512, 1024, 19)

VARIANTS = {
    "w48": {},
    "w18-small": {"encoder": "hrnet_w18_small"},
    "w18-small-v2": {"encoder": "hrnet_w18_small_v2"},
    "w18": {"encoder": "hrnet_w18"},
    "w32": {"encoder": "hrnet_w32"},
    "test": {"encoder": "hrnet_test"},
}


class HRNetV2(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: an HRNet.
      conv_bias: a bias in the head's first convolution, before the normalisation.
      kernel_size: of the classifier; 1 in all published configurations, 3 possible in the authors' code.
      align_corners: of every resize.
    """

    encoder: str = "hrnet_w48"
    conv_bias: bool = False
    kernel_size: int = 1
    align_corners: bool = True

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        stages = self.make_encoder(align_corners=self.align_corners)(images, train)
        branches = [stages[stride] for stride in sorted(stages)]
        width = sum(x.shape[-1] for x in branches)
        x = JoinNorm(width, self.conv_bias, self.align_corners, self.dtype, name="join")(branches, train)
        logits = Conv(self.num_classes, self.kernel_size, dtype=self.dtype, name="classifier")(x)
        return self.outputs(logits, size=images.shape[1:3], align_corners=self.align_corners)


MODEL = HRNetV2
