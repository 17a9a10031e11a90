"""Focal Tversky loss: the Tversky loss, classes that already overlap well turned down."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from segjax.losses.regions import class_mean
from segjax.losses.tversky import Tversky


@dataclasses.dataclass(frozen=True)
class FocalTversky(Tversky):
    """(1 - Tversky index)^(1 / gamma) of each class, averaged over the classes of an image; the paper sums.

    Abraham and Khan. A novel focal Tversky loss function with improved attention U-Net for lesion segmentation. ISBI
    2019. arXiv:1810.07842.

    Attributes:
      gamma: 4/3 in the paper; 1 is the Tversky loss.
    """

    gamma: float = 4.0 / 3.0

    above_zero = ("gamma",)

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        # A power below 1 has no finite slope at 0, where a class is in neither label nor prediction.
        wrong = jnp.maximum(1.0 - self.index(logits, targets, counted), 1e-6)
        return class_mean(wrong ** (1.0 / self.gamma), class_weights)
