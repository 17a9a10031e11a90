"""Tversky loss: dice with a price of its own for what is missed and for what is imagined."""

from __future__ import annotations

import dataclasses

import jax

from segjax.losses.base import ImageLoss
from segjax.losses.regions import class_mean, region_sizes


@dataclasses.dataclass(frozen=True)
class Tversky(ImageLoss):
    """One minus the Tversky index, averaged over the classes of an image.

    Salehi, Erdogmus, Gholipour. Tversky loss function for image segmentation using 3D fully convolutional deep
    networks. MLMI 2017. arXiv:1706.05721.

    With TP = sum p[k] t[k], FP = sum p[k] (1 - t[k]) and FN = sum (1 - p[k]) t[k] over the pixels that count:

        1 - (TP + smooth) / (TP + false_positives * FP + false_negatives * FN + smooth)

    At 1/2 and 1/2 it is the dice loss of half the `smooth`; at 1 and 1 the soft Jaccard loss. As in `Dice` the mean
    takes every class, by its class weight.

    Attributes:
      false_positives: the paper's alpha.
      false_negatives: the paper's beta; 0.3 and 0.7 are its best pair.
      smooth: pixels added to both sides of the fraction.
    """

    false_positives: float = 0.3
    false_negatives: float = 0.7
    smooth: float = 1.0

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        return class_mean(1.0 - self.index(logits, targets, counted), class_weights)

    def index(self, logits, targets, counted) -> jax.Array:
        """float32 [B, K], the Tversky index of each class in each image."""
        overlap, predicted, true = region_sizes(logits, targets, counted)
        wrong = self.false_positives * (predicted - overlap) + self.false_negatives * (true - overlap)
        return (overlap + self.smooth) / (overlap + wrong + self.smooth)
