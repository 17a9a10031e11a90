"""Lovasz hinge: a convex surrogate of one minus the IoU of the foreground of two classes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from segjax.core.errors import ConfigError
from segjax.losses.base import ImageLoss
from segjax.losses.lovasz import jaccard_extension


@dataclasses.dataclass(frozen=True)
class LovaszHinge(ImageLoss):
    """Lovasz hinge of each image, for two classes, the second of them the foreground.

    Yu and Blaschko. Learning submodular losses with the Lovasz hinge. ICML 2015. In the form of Berman, Triki and
    Blaschko. The Lovasz-Softmax loss. CVPR 2018. arXiv:1705.08790.

    The score of a pixel is s = z[1] - z[0], its error the hinge max(0, 1 - s) on the foreground, max(0, 1 + s) on the
    background. An image without foreground costs its largest error. Class weights have no place in it.

    Raises:
      ConfigError: other than two classes.
    """

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        if logits.shape[-1] != 2:
            raise ConfigError(f"lovasz_hinge takes 2 classes, not {logits.shape[-1]}: use lovasz_softmax")
        foreground = targets[..., 1]
        score = logits[..., 1] - logits[..., 0]
        errors = jax.nn.relu(1.0 - jnp.where(foreground, score, -score))
        flat = (x.reshape(x.shape[0], -1) for x in (errors, foreground, counted))
        return jaccard_extension(*flat)
