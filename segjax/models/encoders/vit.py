"""Vision transformer (ViT) as a feature extractor at any image size.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly, Uszkoreit, Houlsby.
An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale. ICLR 2021. arXiv:2010.11929. Sizes: table 1.

The layout is timm's. Parameters without the classifier, position embedding for 224x224 images (14x14 patches): ViT-B/16
85,798,656 and ViT-L/16 303,301,632; each further patch of the grid adds `width`.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError
from segjax.models.encoders.base import Encoder
from segjax.nn.conv import Conv
from segjax.nn.transformer import LayerNorm, TransformerBlock
from segjax.ops.resize import resize_matrix


class ViT(Encoder):
    """ViT features at the one stride it has, the patch's side.

    `__call__(x, train)`: x float [B, H, W, C], H and W multiples of `patch` -> {patch: [B, H/patch, W/patch, width]},
    the last block's; `maps` has every block's.

    Attributes:
      width: channels.
      depth: transformer blocks.
      heads: of the attention.
      patch: pixels on a patch's side.
      grid: patches on a side of the stored position embedding, [grid^2, width] after the class token's row. Images of
        another size get it resized, by the bicubic interpolation that timm uses.
      class_token: whether a token of no patch takes part in the attention; never in the result.
      final_norm: layer normalisation after the last block.
      drop_path: of the last block; the others have a share that grows linearly from 0.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 16
    grid: int = 14
    class_token: bool = True
    final_norm: bool = True
    drop_path: float = 0.0

    @property
    def channels(self) -> dict[int, int]:
        return {self.patch: self.width}

    def __call__(self, x: jax.Array, train: bool = False) -> dict[int, jax.Array]:
        return {self.patch: self.maps(x, train)[-1]}

    @nn.compact
    def maps(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
        """[B, H, W, C] -> [B, H/patch, W/patch, width] after each block."""
        if self.output_stride < self.patch:
            raise ModelError(
                f"output_stride={self.output_stride} is impossible for ViT, whose patches have {self.patch} pixels a "
                f"side: use {self.patch}."
            )
        x = Conv(self.width, self.patch, stride=self.patch, padding="valid", dtype=self.dtype, name="embed")(x)
        batch, rows, columns, _ = x.shape
        normal = nn.initializers.truncated_normal(0.02)
        position = self.param("position", normal, (self.class_token + self.grid**2, self.width), jnp.float32)
        x = x + position_map(position[-(self.grid**2) :], rows, columns).astype(self.dtype)
        x = x.reshape(batch, -1, self.width)
        if self.class_token:
            token = self.param("class_token", normal, (self.width,), jnp.float32) + position[0]
            token = jnp.broadcast_to(token.astype(self.dtype), (batch, 1, self.width))
            x = jnp.concatenate([token, x], axis=1)
        maps = []
        for i, drop in enumerate(np.linspace(0, self.drop_path, self.depth)):
            x = TransformerBlock(self.heads, drop_path=float(drop), dtype=self.dtype, name=f"block{i + 1}")(x, train)
            maps.append(x[:, -rows * columns :].reshape(batch, rows, columns, self.width))
        if self.final_norm:
            maps[-1] = LayerNorm(dtype=self.dtype, name="norm")(maps[-1])
        return maps


def position_map(stored: jax.Array, rows: int, columns: int) -> jax.Array:
    """A stored position embedding [n^2, C] for another grid: [rows, columns, C], n x n resized bicubically."""
    side = math.isqrt(len(stored))
    grid = stored.reshape(side, side, -1)
    if (rows, columns) == (side, side):
        return grid
    down, across = (resize_matrix(side, n, "bicubic", antialias=True) for n in (rows, columns))
    return jnp.einsum("hg,wk,gkc->hwc", down, across, grid)


VARIANTS = {
    "vit_b16": dict(),
    "vit_l16": dict(width=1024, depth=24, heads=16),
    "vit_test": dict(width=12, depth=2, heads=2, grid=3),
}

ENCODER = ViT
