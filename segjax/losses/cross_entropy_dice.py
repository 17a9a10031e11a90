"""Cross entropy and dice together: the first teaches every pixel, the second does not forget small classes."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from segjax.losses.base import ImageLoss, label_weights
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.dice import Dice


@dataclasses.dataclass(frozen=True)
class CrossEntropyDice(ImageLoss):
    """Mean cross entropy of an image plus its soft dice loss (Isensee et al., nnU-Net, Nature Methods 2021, "Loss
    function"). Both halves take the class weights; label smoothing acts on the cross entropy.

    Attributes:
      share: weight of the dice loss beside the cross entropy's 1.
      smooth: as in `Dice`.
    """

    share: float = 1.0
    smooth: float = 1.0

    smooths = True

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        pixels = CrossEntropy().values(logits, targets, counted, class_weights, label_smoothing)
        weights = jnp.where(counted, label_weights(targets, class_weights), 0.0).sum(axis=(1, 2))
        total = jnp.where(counted, pixels, 0.0).sum(axis=(1, 2))
        mean = total / jnp.where(weights > 0, weights, 1.0)
        return mean + self.share * Dice(self.smooth).values(logits, targets, counted, class_weights, label_smoothing)
