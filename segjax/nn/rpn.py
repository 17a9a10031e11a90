"""Region proposal network: which of the anchors of a pyramid hold an object, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.nn.conv import Conv
from segjax.ops.anchors import pyramid_anchors
from segjax.ops.precision import widen


class Proposing(NamedTuple):
    """What is said of each anchor, level by level, finest first; A anchors of a level.

    Attributes:
      logits: float32 [B, A], whether it holds an object.
      deltas: float32 [B, A, 4], from the anchor to the object's box (`ops.boxes.decode`).
      anchors: float32 [A, 4].
    """

    logits: list[jax.Array]
    deltas: list[jax.Array]
    anchors: list[jax.Array]


class RegionProposals(nn.Module):
    """Ren et al., Faster R-CNN, NeurIPS 2015, arXiv:1506.01497, section 3.1, on a pyramid (Lin et al., 2017, section
    4.1): a 3x3 convolution and two 1x1 ones, the same at every level.

    `__call__({stride: [B, H/s, W/s, C]}) -> Proposing`. Children `conv`, `objectness`, `deltas`.

    Attributes:
      sizes: of the anchors in pixels, one a level.
      ratios: height over width of the anchors at each position.
      dtype: of the arithmetic.
    """

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, levels: Mapping[int, jax.Array]) -> Proposing:
        strides = sorted(levels)
        options = {"dtype": self.dtype, "kernel_init": nn.initializers.normal(0.01)}
        conv = Conv(levels[strides[0]].shape[-1], 3, **options, name="conv")
        objectness = Conv(len(self.ratios), 1, **options, name="objectness")
        deltas = Conv(4 * len(self.ratios), 1, **options, name="deltas")
        shared = [nn.relu(conv(levels[stride])) for stride in strides]
        shapes = [level.shape[1:3] for level in shared]
        return Proposing(
            [rearrange(widen(objectness(x)), "b h w a -> b (h w a)") for x in shared],
            [rearrange(widen(deltas(x)), "b h w (a d) -> b (h w a) d", d=4) for x in shared],
            [jnp.asarray(level) for level in pyramid_anchors(shapes, strides, self.sizes, self.ratios)],
        )
