"""Boundary loss: how far what is wrong lies from the true boundary."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from segjax.losses.base import ImageLoss
from segjax.losses.generalised_dice import GeneralisedDice
from segjax.losses.regions import class_mean, probabilities
from segjax.ops.distance import distance


@dataclasses.dataclass(frozen=True)
class Boundary(ImageLoss):
    """`region` times the generalised dice loss plus `alpha` times the boundary loss.

    Kervadec et al. Boundary loss for highly unbalanced segmentation. MIDL 2019. arXiv:1812.07032.

    With phi[k] the signed distance to the boundary of class k in the label, p the softmax and t the one-hot label, the
    boundary loss is the mean over the pixels that count, and over the classes by their weight, of

        phi[k] * (p[k] - t[k])

    The paper leaves out t, which moves no gradient; with it the loss is 0 where the prediction is right and never
    negative. Pixels that do not count belong to no class's region.

    Attributes:
      region: weight of the generalised dice loss; the boundary loss alone hardly trains from scratch.
      alpha: weight of the boundary loss, which is in pixels.
    """

    region: float = 1.0
    alpha: float = 0.01

    def values(self, logits, targets, counted, class_weights, label_smoothing):
        t = targets & counted[..., None]
        wrong = signed_distance(t) * (probabilities(logits, counted) - t)
        pixels = jnp.maximum(counted.sum(axis=(1, 2)), 1)[:, None]
        loss = self.alpha * class_mean(wrong.sum(axis=(1, 2)) / pixels, class_weights)
        dice = GeneralisedDice().values(logits, targets, counted, class_weights, label_smoothing)
        return loss + self.region * dice


def signed_distance(region: jax.Array) -> jax.Array:
    """float32 [B, H, W, K] as in the authors' code: outside a region, how far off it is; inside, one minus how far its
    outside is. 0 for a region that is empty or the whole image.

    Args:
      region: bool [B, H, W, K].
    """
    signed = jnp.where(region, 1.0 - distance(~region), distance(region))
    both = region.any(axis=(1, 2), keepdims=True) & (~region).any(axis=(1, 2), keepdims=True)
    return lax.stop_gradient(jnp.where(both, signed, 0.0))
