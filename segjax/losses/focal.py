"""Focal loss: cross entropy that looks away from what is already right."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from segjax.losses.base import PixelLoss, label_weights


@dataclasses.dataclass(frozen=True)
class Focal(PixelLoss):
    """Softmax focal loss of each pixel (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5).

    The term of a pixel is w[y] * (1 - p[y])^gamma * -log p[y], its weight w[y]; w plays the part of the paper's alpha.
    With gamma 0 it is the cross entropy.

    Attributes:
      gamma: how strongly pixels that are already right are turned down; 2 in the paper.
    """

    gamma: float = 2.0

    pixelwise = True

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        log_p = jnp.where(targets, jax.nn.log_softmax(logits, axis=-1), 0.0).sum(axis=-1)
        # 1 - p by expm1 stays exact where p is nearly 1. There the power of a base of 0 has no finite slope when
        # gamma < 1, so the base is kept above the smallest normal float32.
        wrong = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(jnp.float32).tiny)
        return label_weights(targets, class_weights) * wrong**self.gamma * -log_p
