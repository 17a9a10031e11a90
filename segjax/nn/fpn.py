"""Feature pyramid: semantics of the deepest stage brought to all resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import repeat

from segjax.nn.conv import Conv

xavier = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
"""Caffe2's XavierFill, with which detectron2 begins pyramids and fully connected layers."""


class FeaturePyramid(nn.Module):
    """Lin et al., Feature pyramid networks for object detection, CVPR 2017, arXiv:1612.03144, figure 3.

    `__call__({stride: [B, H/s, W/s, channels]}) -> {stride: [B, H/s, W/s, features]}` of the same strides, each half
    the next. Children `lateral_S`, 1x1, and `output_S`, 3x3, of each stride, Convs with bias and nothing after them.

    Attributes:
      features: channels of every level.
      dtype: of the arithmetic.
    """

    features: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, stages: Mapping[int, jax.Array]) -> dict[int, jax.Array]:
        def conv(x: jax.Array, size: int, name: str) -> jax.Array:
            return Conv(self.features, size, dtype=self.dtype, kernel_init=xavier, name=name)(x)

        levels, x = {}, None
        for stride in sorted(stages, reverse=True):
            lateral = conv(stages[stride], 1, f"lateral_{stride}")
            x = lateral if x is None else lateral + repeat(x, "b h w c -> b (h 2) (w 2) c")
            levels[stride] = conv(x, 3, f"output_{stride}")
        return dict(sorted(levels.items()))
