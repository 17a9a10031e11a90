"""What every encoder agrees on.

Shape legend: B batch, H height, W width of the image.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class Encoder(nn.Module):
    """Base of every encoder: `__call__(x, train) -> {stage stride: [B, H / s, W / s, channels[stage stride]]}`.

    The key is the stride the stage has in an image classifier; its true stride is s = min(key, output_stride). So
    `features[32]` is the deepest stage, and `features[16]` the one before, whatever the output stride.

    Attributes:
      output_stride: the coarsest true stride; stages beyond it keep the resolution and widen their rates instead.
      dtype: of the arithmetic.
    """

    output_stride: int = 32
    dtype: Any = jnp.float32

    @property
    def channels(self) -> dict[int, int]:
        """{stage stride: channels}, known without running the encoder."""
        raise NotImplementedError
