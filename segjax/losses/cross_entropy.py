"""Cross entropy, with class weights and label smoothing."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from segjax.losses.base import PixelLoss, label_weights


@dataclasses.dataclass(frozen=True)
class CrossEntropy(PixelLoss):
    """Softmax cross entropy of each pixel; equal to `torch.nn.functional.cross_entropy` in values, mean and gradient.

    With p the softmax of the logits, y the label, w the class weights and e the label smoothing, the term of a pixel is

        (1 - e) * w[y] * -log p[y]  +  e / K * sum_k w[k] * -log p[k]

    and its weight is w[y]. Both halves follow torch: the smoothed half weighs each class by its own weight, not by that
    of the label, while the mean divides by the sum of w[y] whether or not there is smoothing. Without class weights
    this is the cross entropy against (1 - e) one-hot(y) + e / K (Szegedy et al., Rethinking the Inception Architecture,
    CVPR 2016, section 7). A pixel whose class has weight 0 still carries the smoothed half.
    """

    smooths = True
    pixelwise = True

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        log_normaliser = jax.nn.logsumexp(logits, axis=-1)
        target_logit = jnp.where(targets, logits, 0.0).sum(axis=-1)
        values = label_weights(targets, class_weights) * (log_normaliser - target_logit)
        if not isinstance(label_smoothing, int | float) or label_smoothing:  # a traced share may be 0
            spread = class_weights.sum() * log_normaliser - (class_weights * logits).sum(axis=-1)
            values = (1.0 - label_smoothing) * values + label_smoothing / logits.shape[-1] * spread
        return values
