"""FastFCN: joint pyramid upsampling in the place of a dilated encoder.

Wu, Zhang, Huang, Liang, Yu. FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic Segmentation. 2019.
arXiv:1903.11816.

What is particular: the encoder keeps its strides. Joint pyramid upsampling takes its last three stages, a 3x3
convolution each, upsamples them to stride 8, joins them and runs four separable convolutions of rates 1, 2, 4, 8, which
stand for what a dilated encoder would have computed at stride 8. Any head for such features follows: that of PSPNet, of
DeepLab v3 (with a 3x3 convolution before the classifier), of EncNet, or of an FCN.

Held to these published layouts, at 59 classes, auxiliary head included, to the parameter (wuhuikai/FastFCN, whose
counts hold 2,049,000 more for an ImageNet classifier that is never called):

    resnet50-psp    68,846,390        resnet50-aspp    61,882,934        resnet50-fcn    55,210,806
    resnet50-enc    47,364,502        resnet101-aspp   80,875,062        resnet101-fcn   74,202,934
    resnet101-enc   66,356,630

and resnet50-psp with mmsegmentation's deep stem, at 19 classes: 68,711,046. The `enc` counts lack 30,267 of the
semantic encoding loss's classifier, which scores whole images and only in training: we leave that loss out.

GMACs at 480x480 (59 classes): psp 121.62, aspp 109.72, fcn 87.60. The authors' README: 51.05 mean IoU on Pascal Context
for resnet50-enc, 50.89 for resnet50-psp, 50.07 for resnet50-aspp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, suggest
from segjax.models.base import EncoderNetwork
from segjax.nn.context import ASPP, PyramidPooling
from segjax.nn.conv import Conv, ConvNorm
from segjax.nn.encoding import ContextEncoding
from segjax.nn.head import FCNHead
from segjax.ops.join import concatenated

PAPER = "Wu, Zhang, Huang, Liang, Yu. FastFCN: Rethinking Dilated Convolution. 2019. arXiv:1903.11816"

_WIDE = dict(encoder_options=dict(stem="wide"))
HEADS = ("psp", "aspp", "enc", "fcn")

VARIANTS = {
    "resnet50-psp": dict(encoder="resnet50", head="psp", **_WIDE),
    "resnet50-aspp": dict(encoder="resnet50", head="aspp", **_WIDE),
    "resnet50-enc": dict(encoder="resnet50", head="enc", **_WIDE),
    "resnet50-fcn": dict(encoder="resnet50", head="fcn", **_WIDE),
    "resnet101-psp": dict(encoder="resnet101", head="psp", **_WIDE),
    "resnet101-aspp": dict(encoder="resnet101", head="aspp", **_WIDE),
    "resnet101-enc": dict(encoder="resnet101", head="enc", **_WIDE),
    "resnet101-fcn": dict(encoder="resnet101", head="fcn", **_WIDE),
    "resnet50-psp-mmseg": dict(encoder="resnet50", head="psp", encoder_options=dict(stem="deep"), align_corners=False),
    "test": dict(encoder="resnet_test", head="enc", width=8, aux_features=4, codes=4, dropout=0.0),
}

# A shift of every channel before a 1x1 convolution and batch normalisation, which takes it away again.
ZERO_GRADIENT = {"test": r"^upsampling/depthwise_\d/norm/bias$"}


class JointPyramidUpsampling(nn.Module):
    """Stages [at strides 8, 16, 32] -> [B, H/8, W/8, 4 * width]; called `(stages, train)`. Children: `stage_1` to
    `stage_3`, and for each rate R `depthwise_R` and `rate_R`, ConvNorms.

    Attributes:
      width: channels of each convolution.
      align_corners: of the upsampling.
      dtype: of the arithmetic.
    """

    width: int = 512
    align_corners: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stages: Sequence[jax.Array], train: bool) -> jax.Array:
        levels = [
            ConvNorm(self.width, 3, dtype=self.dtype, name=f"stage_{i}")(x, train)
            for i, x in enumerate(stages, start=1)
        ]
        x = concatenated(levels[::-1], self.align_corners)
        channels, branches = x.shape[-1], []
        for rate in (1, 2, 4, 8):
            depthwise = ConvNorm(
                channels, 3, rate=rate, groups=channels, act=None, dtype=self.dtype, name=f"depthwise_{rate}"
            )
            branches.append(ConvNorm(self.width, 1, dtype=self.dtype, name=f"rate_{rate}")(depthwise(x, train), train))
        return jnp.concatenate(branches, axis=-1)


class FastFCN(EncoderNetwork):
    """FastFCN. Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 8, 16 and 32.
      head: "psp", "aspp", "enc" or "fcn".
      width: channels of the upsampling's convolutions, and of the heads (half of them in ASPP).
      rates: of ASPP, in pixels at stride 8.
      codes: codewords of the context encoding.
      align_corners: of every resize.
      dropout: of whole channels, before each classifier.
      aux_features: channels of the auxiliary head on the stage at stride 16, for training only; 0 for none.
    """

    encoder: str = "resnet50"
    head: str = "psp"
    width: int = 512
    rates: tuple[int, ...] = (12, 24, 36)
    codes: int = 32
    align_corners: bool = True
    dropout: float = 0.1
    aux_features: int = 256

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder or head, or an encoder that lacks a stage or a field asked for.
        """
        if self.head not in HEADS:
            raise ModelError(f"FastFCN has no head {self.head!r}.{suggest(self.head, HEADS)}")
        stages = self.stages(images, (8, 16, 32), train)
        upsample = JointPyramidUpsampling(self.width, self.align_corners, self.dtype, name="upsampling")
        x = upsample([stages[stride] for stride in (8, 16, 32)], train)
        logits = self._classify(x, train)
        aux_head = self._fcn(self.aux_features, "aux_head")
        aux = self.auxiliary(aux_head, stages[16], train) if self.aux_features else ()
        return self.outputs(logits, aux, size=images.shape[1:3], align_corners=self.align_corners)

    def _fcn(self, features: int, name: str) -> FCNHead:
        return FCNHead(self.num_classes, features, self.dropout, dtype=self.dtype, name=name)

    def _classify(self, x: jax.Array, train: bool) -> jax.Array:
        """Features at stride 8 -> logits at stride 8."""
        if self.head == "enc":
            x = ConvNorm(self.width, 1, dtype=self.dtype, name="reduce")(x, train)
            x = ContextEncoding(self.codes, self.dtype, name="context")(x, train)
            x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)
            return Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        if self.head == "psp":
            x = PyramidPooling(self.width, align_corners=self.align_corners, dtype=self.dtype, name="context")(x, train)
        if self.head == "aspp":
            half = self.width // 2
            x = ASPP(half, self.rates, dropout=0.5, dtype=self.dtype, name="context")(x, train)
            return self._fcn(half, "head")(x, train)
        return self._fcn(self.width, "head")(x, train)


MODEL = FastFCN
