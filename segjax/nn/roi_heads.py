"""Heads on the features of regions. B images, R regions of each, P x P bins, C channels, K classes."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange

from segjax.nn.conv import Conv, UpConv
from segjax.nn.fpn import xavier
from segjax.ops.precision import widen

# Of He et al.'s initialisation for what a layer gives on, rather than what it takes.
_he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BoxHead(nn.Module):
    """Two fully connected layers; then the class, and a box for each class (Lin et al., 2017, section 4.2).

    `__call__([B, R, P, P, C]) -> (float32 [B, R, K + 1] logits, background last; float32 [B, R, K, 4] deltas)`.
    Children `fc1`, `fc2`, `classes`, `deltas`.

    Attributes:
      num_classes: K.
      features: of the fully connected layers.
      dtype: of the arithmetic.
    """

    num_classes: int
    features: int = 1024
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def dense(features: int, name: str, init: Any, axis: Any = -1) -> nn.DenseGeneral:
            return nn.DenseGeneral(features, axis, dtype=self.dtype, kernel_init=init, name=name)

        x = nn.relu(dense(self.features, "fc1", xavier, (-3, -2, -1))(x))
        x = nn.relu(dense(self.features, "fc2", xavier)(x))
        logits = dense(self.num_classes + 1, "classes", nn.initializers.normal(0.01))(x)
        deltas = dense(4 * self.num_classes, "deltas", nn.initializers.normal(0.001))(x)
        return widen(logits), rearrange(widen(deltas), "b r (k d) -> b r k d", d=4)


class MaskHead(nn.Module):
    """3x3 convolutions, a transposed one of stride 2, and a mask for each class (He et al., Mask R-CNN, figure 4).

    `__call__([B, R, P, P, C]) -> float32 [B, R, 2 P, 2 P, K]` logits. Children `conv1` and on, `upconv`, `classifier`.

    Attributes:
      num_classes: K.
      features: of the convolutions.
      convs: how many.
      dtype: of the arithmetic.
    """

    num_classes: int
    features: int = 256
    convs: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch = x.shape[0]
        x = rearrange(x, "b r h w c -> (b r) h w c")
        options = {"dtype": self.dtype, "kernel_init": _he_fan_out}
        for i in range(self.convs):
            x = nn.relu(Conv(self.features, 3, **options, name=f"conv{i + 1}")(x))
        x = nn.relu(UpConv(self.features, 2, **options, name="upconv")(x))
        options["kernel_init"] = nn.initializers.normal(0.001)
        x = Conv(self.num_classes, 1, **options, name="classifier")(x)
        return rearrange(widen(x), "(b r) h w k -> b r h w k", b=batch)
