"""Generalised dice loss: one overlap of all classes, each weighed by how small it is."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from segjax.losses.base import ImageLoss
from segjax.losses.regions import region_sizes


@dataclasses.dataclass(frozen=True)
class GeneralisedDice(ImageLoss):
    """One minus the generalised dice overlap of an image.

    Sudre et al. Generalised Dice overlap as a deep learning loss function for highly unbalanced segmentations. DLMIA
    2017. arXiv:1707.03237.

        1 - 2 * sum_k w[k] sum p[k] t[k] / sum_k w[k] (sum p[k] + sum t[k]),    w[k] = 1 / (sum t[k])^2

    with p the softmax, t the one-hot label, sums over the pixels of the image that count. A class that is not in the
    image takes the largest weight of those that are, as in the authors' NiftyNet. Class weights multiply w.
    """

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        overlap, predicted, true = region_sizes(logits, targets, counted)
        # The fraction is the same whatever the unit of w: with the smallest region as 1 no weight is tiny.
        smallest = jnp.where(true > 0, true, jnp.inf).min(axis=-1, keepdims=True)
        relative = jnp.where(true > 0, smallest / jnp.maximum(true, 1.0), 1.0)
        weights = class_weights * relative**2
        total = (weights * (predicted + true)).sum(axis=-1)
        return 1.0 - 2.0 * (weights * overlap).sum(axis=-1) / jnp.where(total > 0, total, 1.0)
