"""DRN: dilated residual networks for semantic segmentation.

Fisher Yu, Vladlen Koltun, Thomas Funkhouser. Dilated Residual Networks. CVPR 2017. arXiv:1705.09914.

Particular about it: the image classifier itself is kept at 1/8 and freed of gridding (`segjax/models/encoders/drn.py`),
so a 1x1 convolution on its last level is the whole head. DRN-A is a ResNet-50 whose last two stages are dilated from
their second block on.

Held to, to the parameter (`tests/models/test_drn.py`), 19 classes, fyu/drn's `DRNSeg`:

    c-26 20,623,331    d-22 15,890,499    d-24 20,611,139    d-54 35,305,923
    c-58 40,038,755, 1,049,600 fewer than theirs: the projection of a shortcut that is never added

The authors upsample the logits by a fixed transposed convolution, which interpolates towards zeros at the image's
border; so do we (`zero_border`).

Accuracy, Cityscapes val (the authors' README): 68.0 mean IoU for d-22 and c-26, 70.9 for c-42, 71.4 for d-38, 75.6 for
d-105, 67.3 for a-50.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.ops.linear_map import along_axis
from segjax.ops.precision import widen
from segjax.ops.resize import resize_matrix

PAPER = "Yu, Koltun, Funkhouser. Dilated Residual Networks. CVPR 2017. arXiv:1705.09914"

INPUT = (896, 896, 19)

_DRN_A = {"stage_rates": ((1,), (1,), (1, 2, 2, 2, 2, 2), (1, 4, 4))}

VARIANTS = {
    "d-22": {},
    "a-50": {"encoder": "resnet50", "encoder_options": _DRN_A},
    "c-26": {"encoder": "drn_c_26"},
    "c-42": {"encoder": "drn_c_42"},
    "c-58": {"encoder": "drn_c_58"},
    "d-24": {"encoder": "drn_d_24"},
    "d-38": {"encoder": "drn_d_38"},
    "d-54": {"encoder": "drn_d_54"},
    "d-105": {"encoder": "drn_d_105"},
    "test": {"encoder": "drn_test"},
}


class DRNSeg(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of the output stride -> logits [B, H, W, K].

    Attributes:
      output_stride: of the encoder.
      zero_border: the upsampling takes the logits beyond the border to be zero, rather than the nearest ones.
    """

    encoder: str = "drn_d_22"
    output_stride: int = 8
    zero_border: bool = True

    @property
    def stride(self) -> int:
        return self.output_stride

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        x = self.stages(images, (32,), train)[32]
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
        if not self.zero_border:
            return self.outputs(logits, size=images.shape[1:3])
        logits = widen(logits)
        for axis in (1, 2):
            logits = along_axis(_towards_zeros(logits.shape[axis], self.output_stride), logits, axis)
        return self.outputs(logits)


def _towards_zeros(size: int, factor: int):
    """float32 [factor * size, size]: bilinear upsampling along an axis with a zero before and a zero behind."""
    return resize_matrix(size + 2, factor * (size + 2))[factor:-factor, 1:-1]


MODEL = DRNSeg
