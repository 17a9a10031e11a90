"""Lovasz softmax: a convex surrogate of one minus the mean IoU of an image."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from segjax.losses.base import ImageLoss
from segjax.losses.lovasz import jaccard_extension
from segjax.losses.regions import class_mean, probabilities


@dataclasses.dataclass(frozen=True)
class LovaszSoftmax(ImageLoss):
    """Lovasz-Softmax of each image.

    Berman, Triki, Blaschko. The Lovasz-Softmax loss. CVPR 2018. arXiv:1705.08790.

    For each class the Lovasz extension of its Jaccard loss at the errors |t[k] - p[k]|, p the softmax and t the one-hot
    label; the mean over the classes present in the image, by class weight. The IoU is that of an image,
    not of the batch, so that the loss does not depend on how the batch is divided.
    """

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        t = targets & counted[..., None]
        errors = jnp.abs(t - probabilities(logits, counted))

        def by_class(x):  # [B, H, W, K] -> [B, K, H * W]
            return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], x.shape[-1], -1)

        known = jnp.broadcast_to(counted[..., None], t.shape)
        per_class = jaccard_extension(by_class(errors), by_class(t), by_class(known))
        return class_mean(per_class, class_weights, present=t.any(axis=(1, 2)))
