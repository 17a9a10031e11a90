"""Soft dice loss: the overlap of each class's region in an image."""

from __future__ import annotations

import dataclasses

from segjax.losses.base import ImageLoss
from segjax.losses.regions import class_mean, region_sizes


@dataclasses.dataclass(frozen=True)
class Dice(ImageLoss):
    """One minus the soft dice coefficient, averaged over the classes of an image.

    For class k, with p the softmax and t the one-hot label, sums over the pixels of the image that count:

        1 - (2 * sum p[k] t[k] + smooth) / (sum p[k] + sum t[k] + smooth)

    the linear denominator of Sudre et al. (Generalised Dice overlap, DLMIA 2017), not the squares of V-Net.
    The mean over classes is weighted by the class weights and takes every class, so that a class predicted where there
    is none costs something; `smooth` makes a class that is in neither cost nothing.

    Attributes:
      smooth: pixels added to both sides of the fraction.
    """

    smooth: float = 1.0

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        overlap, predicted, true = region_sizes(logits, targets, counted)
        return class_mean(1.0 - (2.0 * overlap + self.smooth) / (predicted + true + self.smooth), class_weights)
