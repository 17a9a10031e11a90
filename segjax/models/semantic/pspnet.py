"""PSPNet: a dilated ResNet, and the means of a pyramid of regions beside every pixel.

Zhao, Shi, Qi, Wang, Jia. Pyramid Scene Parsing Network. CVPR 2017. arXiv:1612.01105.

What is particular: the last stage of a ResNet at output stride 8 is pooled to 1x1, 2x2, 3x3 and 6x6 regions; each goes
through a 1x1 convolution to 512 channels, is upsampled and joined to the stage itself (figure 3), and a 3x3 convolution
of 512 channels and a classifier follow. A second classifier on the stage before, with weight 0.4, helps training
(section 4).

Held to these published layouts, to the parameter, auxiliary head included:

    resnet101, 19 classes           68,072,166   hszhao/semseg (the author's), meetshah1995/pytorch-semseg
    resnet101, 21 classes           68,073,706   hszhao/semseg
    resnet101, 150 classes          68,173,036   hszhao/semseg
    resnet152, 21 classes           83,717,354   hszhao/semseg
    resnet50-mmseg, 19 classes      48,975,494   mmsegmentation
    resnet101-mmseg, 19 classes     67,967,622   mmsegmentation
    resnet18-csail, 150 classes     24,566,636   CSAILVision/semantic-segmentation-pytorch
    resnet50-csail, 150 classes     51,579,116   CSAILVision/semantic-segmentation-pytorch
    resnet101-csail, 150 classes    70,571,244   CSAILVision/semantic-segmentation-pytorch

GMACs: resnet101, 150 classes, 473x473: 230.06; resnet50-mmseg, 512x1024: 356.59. Published accuracy, one scale
(hszhao/semseg): resnet101 43.10 mean IoU on ADE20K val, 78.63 on Cityscapes val.

The author's code takes sides 8 n + 1, so that the upsampling of 8 keeps the corners; we take 8 n and upsample to the
image's size with the corners aligned, which is the same function of the features.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.context import PyramidPooling
from segjax.nn.head import FCNHead

PAPER = "Zhao, Shi, Qi, Wang, Jia. Pyramid Scene Parsing Network. CVPR 2017. arXiv:1612.01105"
INPUT = (473, 473, 150)

_SEMSEG = dict(encoder_options=dict(stem="wide", dilate_first=True))
_MMSEG = dict(encoder_options=dict(stem="deep"), align_corners=False)
_CSAIL = dict(encoder_options=dict(stem="wide"), align_corners=False)

VARIANTS = {
    "resnet50": dict(encoder="resnet50", **_SEMSEG),
    "resnet101": dict(encoder="resnet101", **_SEMSEG),
    "resnet152": dict(encoder="resnet152", **_SEMSEG),
    "resnet50-mmseg": dict(encoder="resnet50", **_MMSEG),
    "resnet101-mmseg": dict(encoder="resnet101", **_MMSEG),
    "resnet18-csail": dict(encoder="resnet18", aux_features=128, **_CSAIL),
    "resnet50-csail": dict(encoder="resnet50", aux_features=512, **_CSAIL),
    "resnet101-csail": dict(encoder="resnet101", aux_features=512, **_CSAIL),
    "test": dict(encoder="resnet_test", bin_features=4, features=8, aux_features=4, dropout=0.0),
}


class PSPNet(EncoderNetwork):
    """PSPNet. Images [B, H, W, C], H and W multiples of the output stride -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 16 and 32.
      encoder_options: the author's ResNet has a wide stem and dilates the first block of a stage like the others.
      output_stride: of the encoder.
      bins: of each level of the pyramid, on a side.
      bin_features: channels of each level.
      features: channels before the classifier.
      align_corners: of every resize.
      dropout: of whole channels, before each classifier.
      aux_features: channels of the auxiliary head on the stage at stride 16, for training only; 0 for none.
    """

    encoder: str = "resnet50"
    output_stride: int = 8
    bins: tuple[int, ...] = (1, 2, 3, 6)
    bin_features: int = 512
    features: int = 512
    align_corners: bool = True
    dropout: float = 0.1
    aux_features: int = 256

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage, the output stride or a field asked for.
        """
        stages = self.stages(images, (16, 32), train)

        def head(channels: int, name: str) -> FCNHead:
            return FCNHead(self.num_classes, channels, self.dropout, dtype=self.dtype, name=name)

        pyramid = PyramidPooling(self.bin_features, self.bins, self.align_corners, self.dtype, name="pyramid")
        logits = head(self.features, "head")(pyramid(stages[32], train), train)
        aux = self.auxiliary(head(self.aux_features, "aux_head"), stages[16], train) if self.aux_features else ()
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)


MODEL = PSPNet
