"""DeepLab v3+.

Chen, Zhu, Papandreou, Schroff, Adam. Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation. ECCV 2018. arXiv:1802.02611.

What is particular: an encoder held at output stride 16 or 8 by atrous convolution, atrous spatial pyramid pooling on
its last stage, and a small decoder that joins the result, upsampled four times, with 48 channels of the stage at
stride 4, before two 3x3 convolutions of 256 channels. The 3x3 convolutions of pyramid and decoder are separable, each
half followed by normalisation and ReLU as in the authors' code; `separable=False` makes them dense.

Held to these published layouts, to the parameter (`tests/models/test_deeplabv3plus.py` has the fields of each):

    resnet101, dense, 21 classes                             59,344,309   kazuto1011/deeplab-pytorch, jfzhang95
    resnet50, dense, one decoder convolution, 21 classes     39,761,845   VainF/DeepLabV3Plus-Pytorch
    mobilenetv2, dense, one decoder convolution, 21 classes   5,225,717   VainF/DeepLabV3Plus-Pytorch
    resnet50, `smp` layout, 1 class                          26,677,585   segmentation_models_pytorch 0.6.0
    resnet34, `smp` layout, 1 class                          22,437,457   segmentation_models_pytorch 0.6.0
    resnet50, `mmseg` layout, 19 classes                     43,589,878   mmsegmentation, auxiliary head included
    resnet101, `mmseg` layout, 19 classes                    62,582,006   mmsegmentation, auxiliary head included

Accuracy, one scale: the paper, VOC 2012 val, resnet101 at output stride 16, 78.85 mean IoU; mmsegmentation
(configs/deeplabv3plus/README.md), Cityscapes val, resnet50 at output stride 8, 80,000 iterations, 80.09.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.context import ASPP
from segjax.nn.conv import Conv, ConvNorm, SeparableConv
from segjax.ops.resize import resize

PAPER = "Chen, Zhu, Papandreou, Schroff, Adam. DeepLab v3+. ECCV 2018. arXiv:1802.02611"
INPUT = (513, 513, 21)

_SMP = dict(
    encoder_options=dict(dilate_first=True),
    rates=(12, 24, 36),
    norm_between=False,
    context_conv=True,
    decoder_convs=1,
    align_corners=True,
    dropout=0.5,
)
_MMSEG = dict(output_stride=8, encoder_options=dict(stem="deep"), features=512, project_size=3, aux_head=True)

VARIANTS = {
    "resnet50": dict(),
    "resnet18": dict(encoder="resnet18"),
    "resnet34": dict(encoder="resnet34"),
    "resnet101": dict(encoder="resnet101"),
    "mobilenetv2": dict(encoder="mobilenetv2"),
    "resnet50-os8": dict(output_stride=8),
    "resnet34-smp": dict(encoder="resnet34", **_SMP),
    "resnet50-smp": dict(encoder="resnet50", **_SMP),
    "resnet50-mmseg": dict(encoder="resnet50", **_MMSEG),
    "resnet101-mmseg": dict(encoder="resnet101", **_MMSEG),
    "test": dict(
        encoder="resnet_test", rates=(1, 2), features=8, low_features=4, aux_head=True, aux_features=4, dropout=0.0
    ),
}


class DeepLabV3Plus(EncoderNetwork):
    """DeepLab v3+.

    Attributes:
      encoder: with stages at strides 4, 16 and 32.
      encoder_options: such as a ResNet's stem, dilate_first, or multi_grid, (1, 2, 4) of which is the authors' choice.
      output_stride: of the encoder: 16, or 8 for about four times the arithmetic; 32 for speed.
      rates: of the pyramid's 3x3 convolutions, in pixels of the deepest stage; empty for (6, 12, 18) at output stride
        16, twice that at 8 and half of it at 32, which reaches equally far in the image.
      features: channels of the pyramid and the decoder.
      low_features: channels to which the stage at stride 4 is reduced.
      separable: the 3x3 convolutions of pyramid and decoder are depthwise separable.
      norm_between: normalisation and ReLU between the halves of those.
      project_size: kernel size of the pyramid's projection.
      context_conv: one more 3x3 convolution on the pyramid's result before it is upsampled, as in the `smp` variants.
      decoder_convs: 3x3 convolutions after joining the stage at stride 4.
      align_corners: of every resize.
      dropout: rate after the pyramid and in the auxiliary head.
      aux_head: an auxiliary head (3x3 convolution, classifier) on the stage at stride 16, for training only.
      aux_features: its channels.
    """

    encoder: str = "resnet50"
    output_stride: int = 16
    rates: tuple[int, ...] = ()
    features: int = 256
    low_features: int = 48
    separable: bool = True
    norm_between: bool = True
    project_size: int = 1
    context_conv: bool = False
    decoder_convs: int = 2
    align_corners: bool = False
    dropout: float = 0.1
    aux_head: bool = False
    aux_features: int = 256

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage, the output stride or a field asked for.
        """
        features = self.stages(images, (4, 16, 32), train)
        x = ASPP(
            self.features,
            self.rates or tuple(96 // self.output_stride * i for i in (1, 2, 3)),
            separable=self.separable,
            dropout=self.dropout,
            dtype=self.dtype,
            norm_between=self.norm_between,
            project_size=self.project_size,
            name="aspp",
        )(features[32], train)
        x = self._decode(x, features[4], train)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        aux = self.auxiliary(self._aux_head, features[16], train) if self.aux_head else ()
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)

    def _decode(self, x: jax.Array, low: jax.Array, train: bool) -> jax.Array:
        """The pyramid's result [B, h, w, C] and the stage at stride 4 [B, H/4, W/4, C'] -> [B, H/4, W/4, features]."""
        if self.context_conv:
            x = self._conv("context")(x, train)
        x = resize(x, low.shape[1:3], align_corners=self.align_corners)
        low = ConvNorm(self.low_features, 1, dtype=self.dtype, name="low")(low, train)
        x = jnp.concatenate([x, low], axis=-1)
        for i in range(self.decoder_convs):
            x = self._conv(f"decoder{i + 1}")(x, train)
        return x

    def _conv(self, name: str) -> nn.Module:
        if self.separable:
            return SeparableConv(self.features, dtype=self.dtype, norm_between=self.norm_between, name=name)
        return ConvNorm(self.features, dtype=self.dtype, name=name)

    def _aux_head(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNorm(self.aux_features, dtype=self.dtype, name="aux_conv")(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Conv(self.num_classes, 1, dtype=self.dtype, name="aux_classifier")(x)


MODEL = DeepLabV3Plus
