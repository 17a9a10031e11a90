"""What turns features into logits."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.precision import widen
from segjax.ops.resize import resize


class FCNHead(nn.Module):
    """A 3x3 ConvNorm (child `conv`), dropout, a 1x1 convolution with bias (`classifier`): the usual last layers and
    the usual auxiliary head. [B, H, W, C] -> [B, H, W, classes]; called `(x, train)`.

    Attributes:
      classes: K.
      features: of the 3x3 convolution.
      dropout: probability, from the rng "dropout".
      drop_channels: drop whole channels rather than pixels (Tompson et al., CVPR 2015, arXiv:1411.4280).
      dtype: of the arithmetic.
    """

    classes: int
    features: int
    dropout: float = 0.1
    drop_channels: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = ConvNorm(self.features, 3, dtype=self.dtype, name="conv")(x, train)
        axes = (1, 2) if self.drop_channels else ()
        x = nn.Dropout(self.dropout, broadcast_dims=axes, deterministic=not train)(x)
        return Conv(self.classes, 1, dtype=self.dtype, name="classifier")(x)


def upsample_from_grid(logits: jax.Array, stride: int, size: tuple[int, int]) -> jax.Array:
    """Logits [B, h, w, K] of the image's pixels 0, stride, 2 stride, ..., of which the last may lie beyond it,
    interpolated between them: float32 [B, H, W, K]."""
    rows, columns = (stride * (n - 1) + 1 for n in logits.shape[1:3])
    return resize(widen(logits), (rows, columns), align_corners=True)[:, : size[0], : size[1]]
