"""Bootstrapped cross entropy: the mean over the hardest pixels of each image."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from segjax.losses.base import PixelLoss, label_weights
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.hard_pixels import keep, kth_surprise


@dataclasses.dataclass(frozen=True)
class Bootstrapped(PixelLoss):
    """Cross entropy of the pixels with the smallest probability of their label, a fixed share of each image.

    Wu, Shen, van den Hengel. Bridging category-level and instance-level semantic image segmentation. arXiv:1605.06885.
    FRRN trains with it: Pohlen et al., CVPR 2017, arXiv:1611.08323. Both papers fix a number of pixels; a
    share of them does not depend on the crop.

    The kept pixels' mean is by class weight, and an image's weight in the batch that of all its pixels.

    Attributes:
      share: of an image's pixels that count, rounded up to whole pixels, in (0, 1].
    """

    share: float = 1.0 / 16.0

    above_zero = ("share",)
    at_most_one = ("share",)

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        surprise = CrossEntropy().values(logits, targets, counted, jnp.ones_like(class_weights), 0.0)
        weights = jnp.where(counted, label_weights(targets, class_weights), 0.0)
        hard = surprise >= kth_surprise(surprise, counted, self.share)[:, None, None]
        return keep(weights * surprise, weights, hard & counted)
