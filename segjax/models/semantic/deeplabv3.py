"""DeepLab v3.

Chen, Papandreou, Schroff, Adam. Rethinking Atrous Convolution for Semantic Image Segmentation. 2017. arXiv:1706.05587.

What is particular: a ResNet held at output stride 16 or 8, its last stage at multi-grid rates (1, 2, 4) times the
stage's own (section 3.2.1), then atrous spatial pyramid pooling with the image's mean (section 3.3), a 1x1 classifier,
and upsampling straight to the image. No decoder: that is DeepLab v3+.

Held to these published layouts, to the parameter:

    resnet101, 21 classes                     58,040,661   kazuto1011/deeplab-pytorch, output stride 16 or 8
    resnet50-torchvision, 21, no auxiliary    39,638,869   VainF/DeepLabV3Plus-Pytorch
    resnet101-torchvision, 21, no auxiliary   58,630,997   torchvision 0.29.2, VainF/DeepLabV3Plus-Pytorch
    resnet101-torchvision, 21 classes         60,996,202   torchvision 0.29.2
    resnet50-mmseg, 19 classes                68,113,030   mmsegmentation, auxiliary head included

The first is the paper's; torchvision's adds a 3x3 convolution before the classifier, mmsegmentation's has 512 channels
and a 3x3 projection. The `caffe` variants are kazuto1011's also in what costs no parameters: the stride in the 1x1
convolution, the rounded-up pool, and the first block of a stage at the stage's rate.

GMACs of that layout at 513x513: 70.24 at output stride 16, 245.78 at 8. Published accuracy: 77.21 mean IoU on VOC 2012
val, resnet101 at output stride 16, one scale (table 5).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.context import ASPP
from segjax.nn.conv import Conv, ConvNorm
from segjax.nn.head import FCNHead

PAPER = "Chen, Papandreou, Schroff, Adam. Rethinking Atrous Convolution (DeepLab v3). 2017. arXiv:1706.05587"

_GRID = dict(multi_grid=(1, 2, 4))
_CAFFE = dict(encoder_options=dict(**_GRID, stride_in_1x1=True, dilate_first=True, ceil_pool=True), dropout=0.0)
_TORCHVISION = dict(output_stride=8, context_conv=True, dropout=0.5, aux_features=256)
_MMSEG = dict(
    output_stride=8, encoder_options=dict(stem="deep"), features=512, project_size=3, dropout=0.1, aux_features=256
)

VARIANTS = {
    "resnet50": dict(encoder="resnet50", encoder_options=_GRID),
    "resnet101": dict(encoder="resnet101", encoder_options=_GRID),
    "resnet101-os8": dict(encoder="resnet101", encoder_options=_GRID, output_stride=8),
    "resnet50-caffe": dict(encoder="resnet50", **_CAFFE),
    "resnet101-caffe": dict(encoder="resnet101", **_CAFFE),
    "resnet50-torchvision": dict(encoder="resnet50", **_TORCHVISION),
    "resnet101-torchvision": dict(encoder="resnet101", **_TORCHVISION),
    "resnet50-mmseg": dict(encoder="resnet50", **_MMSEG),
    "resnet101-mmseg": dict(encoder="resnet101", **_MMSEG),
    "test": dict(encoder="resnet_test", rates=(1, 2), features=8, context_conv=True, aux_features=4, dropout=0.0),
}


class DeepLabV3(EncoderNetwork):
    """DeepLab v3. Images [B, H, W, C], H and W multiples of the output stride -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 16 and 32.
      encoder_options: such as multi_grid.
      output_stride: of the encoder: 16, or 8 for about four times the arithmetic.
      rates: of the pyramid's 3x3 convolutions, in pixels of the deepest stage; empty for (6, 12, 18) at output stride
        16, twice that at 8 and half of it at 32.
      features: channels of the pyramid.
      project_size: kernel size of the pyramid's projection.
      context_conv: one more 3x3 convolution before the classifier.
      align_corners: of the upsampling.
      dropout: rate after the pyramid.
      aux_features: channels of the auxiliary head on the stage at stride 16, for training only; 0 for none.
    """

    encoder: str = "resnet50"
    output_stride: int = 16
    rates: tuple[int, ...] = ()
    features: int = 256
    project_size: int = 1
    context_conv: bool = False
    align_corners: bool = False
    dropout: float = 0.1
    aux_features: int = 0

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage, the output stride or a field asked for.
        """
        features = self.stages(images, (16, 32), train)
        x = ASPP(
            self.features,
            self.rates or tuple(96 // self.output_stride * i for i in (1, 2, 3)),
            dropout=self.dropout,
            dtype=self.dtype,
            project_size=self.project_size,
            name="aspp",
        )(features[32], train)
        if self.context_conv:
            x = ConvNorm(self.features, dtype=self.dtype, name="context")(x, train)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        aux = ()
        if self.aux_features:
            head = FCNHead(self.num_classes, self.aux_features, drop_channels=False, dtype=self.dtype, name="aux_head")
            aux = self.auxiliary(head, features[16], train)
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)


MODEL = DeepLabV3
