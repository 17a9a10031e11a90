"""Mix transformer (MiT), the encoder of SegFormer.

Xie, Wang, Yu, Anandkumar, Alvarez, Luo. SegFormer: Simple and Efficient Design for Semantic Segmentation with
Transformers. NeurIPS 2021. arXiv:2105.15203. Sizes: table 6.

Four stages, each an overlapping patch embedding (a strided convolution) and transformer blocks whose keys and values
come from a map shrunk by 8, 4, 2, 1. There is no position embedding: zero padding in the depthwise convolutions of the
Mix-FFN tells positions apart. Layout and figures are NVlabs/SegFormer's, parameters without a classifier: B0 3,319,392;
B1 13,151,424; B2 24,196,288; B3 44,072,128; B4 60,842,688; B5 81,443,008.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import numpy as np

from segjax.core.errors import ModelError
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import Conv
from segjax.nn.transformer import LayerNorm, TransformerBlock


class MiT(Encoder):
    """MiT features at strides 4, 8, 16 and 32; the only output stride is 32.

    `__call__(x, train)`: x float [B, H, W, C], H and W multiples of 32 -> {stride: [B, H/s, W/s, channels[stride]]}.

    Attributes:
      widths: channels of each stage.
      depths: transformer blocks of each stage.
      heads: of each stage's attention.
      reductions: by how much each stage's keys and values are shrunk, rows and columns each.
      drop_path: of the last block; the others have a share that grows linearly from 0.
    """

    widths: tuple[int, ...] = (64, 128, 320, 512)
    depths: tuple[int, ...] = (2, 2, 2, 2)
    heads: tuple[int, ...] = (1, 2, 5, 8)
    reductions: tuple[int, ...] = (8, 4, 2, 1)
    drop_path: float = 0.1

    @property
    def channels(self) -> dict[int, int]:
        return dict(zip((4, 8, 16, 32), self.widths, strict=True))

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        if self.output_stride != 32:
            raise ModelError(
                f"output_stride={self.output_stride} is impossible for MiT, whose attention has no rate: use 32."
            )
        features = {}
        drop = np.split(np.linspace(0, self.drop_path, sum(self.depths)), np.cumsum(self.depths))
        for i, (stride, width) in enumerate(self.channels.items()):
            size, step = (7, 4) if i == 0 else (3, 2)
            x = Conv(width, size, stride=step, dtype=self.dtype, name=f"stage{i + 1}_embed")(x)
            x = LayerNorm(epsilon=1e-5, dtype=self.dtype, name=f"stage{i + 1}_embed_norm")(x)
            for j in range(self.depths[i]):
                x = TransformerBlock(
                    self.heads[i],
                    self.reductions[i],
                    mix=True,
                    drop_path=float(drop[i][j]),
                    dtype=self.dtype,
                    name=f"stage{i + 1}_block{j + 1}",
                )(x, train)
            x = features[stride] = LayerNorm(dtype=self.dtype, name=f"stage{i + 1}_norm")(x)
        return features


VARIANTS = {
    "mit_b0": dict(widths=(32, 64, 160, 256)),
    "mit_b1": dict(),
    "mit_b2": dict(depths=(3, 4, 6, 3)),
    "mit_b3": dict(depths=(3, 4, 18, 3)),
    "mit_b4": dict(depths=(3, 8, 27, 3)),
    "mit_b5": dict(depths=(3, 6, 40, 3)),
    "mit_test": dict(widths=(4, 8, 8, 12), depths=(1, 1, 1, 1), heads=(1, 2, 2, 3), drop_path=0.0),
}

ENCODER = MiT
