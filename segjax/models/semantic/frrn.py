"""FRRN: full-resolution residual networks, A and B.

Tobias Pohlen, Alexander Hermans, Markus Mathias, Bastian Leibe. Full-Resolution Residual Networks for Semantic
Segmentation in Street Scenes. CVPR 2017. arXiv:1611.08323. Layout: TobyPDE/FRRN, `dltools/architectures.py`.

Particular about it: two streams. The residual stream stays at the image's resolution and is only ever added to; the
pooling stream goes down and up again. A full-resolution residual unit pools the residual stream to the other's size,
convolves both together twice, which is the pooling stream from there on, and adds a 1x1 projection of it, upsampled, to
the residual stream.

Held to, to the parameter (`tests/models/test_frrn.py`), TobyPDE/FRRN, the authors' Theano code:

    a, 19 classes   17,746,803   17.7 M in the paper
    b, 19 classes   24,755,699   24.8 M in the paper

The port of meetshah1995/pytorch-semseg has 16,559,075: its units are not chained, its last level has half the channels.
Differences: the upsampling of the pooling stream places pixel centres as `segjax.ops.resize` does (the paper says
bilinear; Theano's keeps the first pixel in place), and normalisation adds 1e-5 to the variance rather than 1e-4.

Accuracy, Cityscapes: 71.8 mean IoU (the paper's abstract).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.nn.conv import Conv, ConvNorm
from segjax.ops.pooling import max_pool
from segjax.ops.resize import resize

PAPER = "Pohlen, Hermans, Mathias, Leibe. Full-Resolution Residual Networks. CVPR 2017. arXiv:1611.08323"

INPUT = (256, 512, 19)

VARIANTS = {
    "a": {},
    "b": {"down": ((3, 2), (4, 4), (2, 8), (2, 8), (2, 8)), "up": ((2, 4), (2, 4), (2, 4), (2, 2))},
    "test": {"features": 4, "residual_features": 4, "units": 1, "down": ((1, 2), (2, 2)), "up": ((1, 2),)},
}


class FRRN(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 2^len(down) -> logits [B, H, W, K].

    Attributes:
      features: channels of the pooling stream at the image's resolution.
      residual_features: channels of the residual stream.
      units: plain residual units at the image's resolution, at the start and at the end.
      down: (full-resolution residual units, factor on `features`) at strides 2, 4, ...
      up: the same on the way back, down to stride 2.
    """

    features: int = 48
    residual_features: int = 32
    units: int = 3
    down: tuple[tuple[int, int], ...] = ((3, 2), (4, 4), (2, 8), (2, 8))
    up: tuple[tuple[int, int], ...] = ((2, 4), (2, 4), (2, 2))

    @property
    def stride(self) -> int:
        return 2 ** len(self.down)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        if len(self.up) != len(self.down) - 1:
            raise ModelError(f"up={self.up} does not end at stride 2: give one level fewer than down={self.down}.")
        x = ConvNorm(self.features, 5, dtype=self.dtype, name="first")(images, train)
        for i in range(1, self.units + 1):
            x = self._unit(x, f"start{i}", train)
        residual = ConvNorm(self.residual_features, 1, act=None, dtype=self.dtype, name="split")(x, train)

        for level, (units, factor) in enumerate(self.down, start=1):
            x, residual = self._level(max_pool(x), residual, units, factor, f"down{level}", train)
        for level, (units, factor) in zip(range(len(self.up), 0, -1), self.up):
            x, residual = self._level(_doubled(x), residual, units, factor, f"up{level}", train)

        x = jnp.concatenate([_doubled(x), residual], -1)
        for i in range(1, self.units + 1):
            x = self._unit(x, f"end{i}", train)
        return self.outputs(Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x))

    def _unit(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        """A residual unit without an activation behind the sum. [B, H, W, C] -> [B, H, W, features]."""
        y = ConvNorm(self.features, dtype=self.dtype, name=f"{name}_conv1")(x, train)
        y = ConvNorm(self.features, act=None, dtype=self.dtype, name=f"{name}_conv2")(y, train)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name=f"{name}_shortcut")(x)
        return x + y

    def _level(
        self, x: jax.Array, residual: jax.Array, units: int, factor: int, name: str, train: bool
    ) -> tuple[jax.Array, jax.Array]:
        """`units` full-resolution residual units: both streams, the pooling stream with `factor * features`."""
        pool = residual.shape[1] // x.shape[1]
        for i in range(1, units + 1):
            x = jnp.concatenate([x, max_pool(residual, pool)], -1)
            for j in (1, 2):
                x = ConvNorm(factor * self.features, dtype=self.dtype, name=f"{name}_unit{i}_conv{j}")(x, train)
            change = Conv(self.residual_features, 1, dtype=self.dtype, name=f"{name}_unit{i}_residual")(x)
            residual = residual + resize(change, residual.shape[1:3], "nearest")
        return x, residual


def _doubled(x: jax.Array) -> jax.Array:
    return resize(x, (2 * x.shape[1], 2 * x.shape[2]))


MODEL = FRRN
