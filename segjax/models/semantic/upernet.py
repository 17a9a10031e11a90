"""UPerNet: pyramid pooling on top of a feature pyramid, every level joined at stride 4.

Xiao, Liu, Zhou, Jiang, Sun. Unified Perceptual Parsing for Scene Understanding. ECCV 2018. arXiv:1807.10221.

What is particular: no atrous convolution. The encoder's last stage goes through pyramid pooling; its result descends a
feature pyramid (1x1 lateral convolutions, sums, a 3x3 convolution a level), and the four levels, upsampled to the
finest, are joined by a 3x3 convolution (figure 4). Of the paper's heads this is the one for objects, which is the
semantic segmentation network everyone calls UPerNet.

Held to these published layouts, to the parameter:

    resnet50, 150 classes          64,222,294   CSAILVision/semantic-segmentation-pytorch (the authors')
    resnet101, 150 classes         83,214,422   CSAILVision/semantic-segmentation-pytorch
    resnet50-mmseg, 19 classes     66,415,238   mmsegmentation, auxiliary head included
    resnet50-mmseg, 150 classes    66,516,108   mmsegmentation
    resnet101-mmseg, 150 classes   85,508,236   mmsegmentation

The authors upsample the pooled bins before their 1x1 convolution, mmsegmentation after it, as PSPNet does.

GMACs at 512x512 and 150 classes: resnet50 244.71, resnet101 264.10; resnet50-mmseg 237.86. The authors'
code reaches 40.44 mean IoU on ADE20K val with resnet50, one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.context import PyramidPooling
from segjax.nn.conv import ConvNorm
from segjax.nn.head import FCNHead
from segjax.ops.join import concatenated
from segjax.ops.resize import resize

PAPER = "Xiao, Liu, Zhou, Jiang, Sun. Unified Perceptual Parsing (UPerNet). ECCV 2018. arXiv:1807.10221"
INPUT = (512, 512, 150)

_CSAIL = dict(encoder_options=dict(stem="wide"), resize_first=True, dropout=0.0)
_MMSEG = dict(encoder_options=dict(stem="deep"), aux_features=256)

VARIANTS = {
    "resnet50": dict(encoder="resnet50", **_CSAIL),
    "resnet101": dict(encoder="resnet101", **_CSAIL),
    "resnet50-mmseg": dict(encoder="resnet50", **_MMSEG),
    "resnet101-mmseg": dict(encoder="resnet101", **_MMSEG),
    "test": dict(encoder="resnet_test", features=8, aux_features=4, dropout=0.0),
}


class UPerNet(EncoderNetwork):
    """UPerNet. Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 4, 8, 16 and 32.
      bins: of each level of the pyramid pooling, on a side.
      features: channels of the pyramid pooling's levels, of the feature pyramid and before the classifier.
      resize_first: the pooled bins are upsampled before their convolution.
      align_corners: of every resize.
      dropout: of whole channels, before each classifier.
      aux_features: channels of the auxiliary head on the stage at stride 16, for training only; 0 for none.
    """

    encoder: str = "resnet50"
    bins: tuple[int, ...] = (1, 2, 3, 6)
    features: int = 512
    resize_first: bool = False
    align_corners: bool = False
    dropout: float = 0.1
    aux_features: int = 0

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for.
        """
        stages = self.stages(images, (4, 8, 16, 32), train)

        def head(channels: int, name: str) -> FCNHead:
            return FCNHead(self.num_classes, channels, self.dropout, dtype=self.dtype, name=name)

        logits = head(self.features, "head")(self._pyramid(stages, train), train)
        aux = self.auxiliary(head(self.aux_features, "aux_head"), stages[16], train) if self.aux_features else ()
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)

    def _pyramid(self, features: Mapping[int, jax.Array], train: bool) -> jax.Array:
        """The encoder's stages -> [B, H/4, W/4, 4 * features]."""

        def conv(x: jax.Array, kernel_size: int, name: str) -> jax.Array:
            return ConvNorm(self.features, kernel_size, dtype=self.dtype, name=name)(x, train)

        x = PyramidPooling(self.features, self.bins, self.align_corners, self.dtype, self.resize_first, name="pooling")(
            features[32], train
        )
        x = conv(x, 3, "pooled")
        levels = [x]
        for stride in (16, 8, 4):
            lateral = conv(features[stride], 1, f"lateral_{stride}")
            x = lateral + resize(x, lateral.shape[1:3], align_corners=self.align_corners)
            levels.append(conv(x, 3, f"level_{stride}"))
        return concatenated(levels[::-1], self.align_corners)


MODEL = UPerNet
