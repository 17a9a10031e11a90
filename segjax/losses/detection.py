"""Losses of two-stage detectors, each summed over one image: map over batches by `jax.vmap`, then divide.

A anchors; N truths; S sampled regions, F of them seen by the mask head; P x P pixels of a mask; K classes.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from segjax.ops.assignment import NEGATIVE, POSITIVE, sample
from segjax.ops.boxes import encode
from segjax.ops.detection import BOX_WEIGHTS, match_boxes


def proposal_losses(
    logits: jax.Array,
    deltas: jax.Array,
    anchors: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
    key: jax.Array,
    *,
    count: int = 256,
    fraction: float = 0.5,
    thresholds: tuple[float, float] = (0.3, 0.7),
) -> tuple[jax.Array, jax.Array]:
    """Of a sample of anchors: binary cross entropy of "holds an object", and L1 of the deltas of those that do.

    Ren et al., Faster R-CNN, section 3.1.2, with detectron2's L1 in place of the smooth one.

    Args:
      logits: [A].
      deltas: [A, 4].
      anchors: [A, 4].
      boxes: [N, 4], truths.
      valid: bool [N].
      key: of the sample.
      count: anchors sampled.
      fraction: of them that may be positive at most.
      thresholds: IoU with a truth below which an anchor is negative, and from which on it is positive.

    Returns:
      Two sums, over the sample; divide by `count` and the number of images.
    """
    truth, role = match_boxes(boxes, valid, anchors, *thresholds, low_quality=True)
    index, role = sample(role, key, count, fraction)
    classification = _cross_entropy(logits[index], role == POSITIVE)
    distance = jnp.abs(deltas[index] - encode(boxes[truth[index]], anchors[index])).sum(-1)
    return (
        jnp.where(role >= NEGATIVE, classification, 0).sum(),
        jnp.where(role == POSITIVE, distance, 0).sum(),
    )


def box_losses(
    logits: jax.Array, deltas: jax.Array, regions: jax.Array, role: jax.Array, boxes: jax.Array, classes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Cross entropy of the class, and L1 of the true class's deltas where there is one.

    Girshick, Fast R-CNN, ICCV 2015, section 2.3, with detectron2's L1.

    Args:
      logits: [S, K + 1], background last.
      deltas: [S, K, 4].
      regions: [S, 4].
      role: int [S]: 1 foreground, 0 background, -1 nothing.
      boxes: [S, 4], of each region's truth.
      classes: int [S], of each region's truth.

    Returns:
      Two sums; divide both by the number of regions with a role from 0 on.
    """
    background = logits.shape[-1] - 1
    chex.assert_shape(deltas, (None, background, 4))
    classes = jnp.clip(classes, 0, background - 1)
    target = jnp.where(role == POSITIVE, classes, background)
    chances = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], axis=-1)[:, 0]
    own = jnp.take_along_axis(deltas, classes[:, None, None], axis=1)[:, 0]
    distance = jnp.abs(own - encode(boxes, regions, BOX_WEIGHTS)).sum(-1)
    return -jnp.where(role >= NEGATIVE, chances, 0).sum(), jnp.where(role == POSITIVE, distance, 0).sum()


def mask_loss(logits: jax.Array, masks: jax.Array, classes: jax.Array, foreground: jax.Array) -> jax.Array:
    """Binary cross entropy of the true class's mask, the mean over its pixels, summed over the foreground.

    He et al., Mask R-CNN, section 3: masks of other classes do not count.

    Args:
      logits: [F, P, P, K].
      masks: bool [F, P, P], the truth (`ops.roi_align.mask_targets`).
      classes: int [F].
      foreground: bool [F].
    """
    own = jnp.take_along_axis(logits, jnp.clip(classes, 0, logits.shape[-1] - 1)[:, None, None, None], axis=-1)[..., 0]
    return jnp.where(foreground, _cross_entropy(own, masks).mean((1, 2)), 0).sum()


def _cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Of the sigmoid of logits against bools."""
    return jax.nn.softplus(jnp.where(targets, -logits, logits))
