"""The steps between the stages of a detector: anchors to proposals, proposals to samples, scores to detections.

Of one image, in static shapes, and without a gradient: map over batches by `jax.vmap`. A anchors; P proposals; R
regions, which are proposals or samples; N truths; K classes; S samples; D detections.
"""

from __future__ import annotations

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.assignment import IGNORED, match, sample
from segjax.ops.boxes import clip, decode, pairwise_iou
from segjax.ops.nms import nms, top_candidates
from segjax.ops.precision import widen

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Of dx, dy, dw, dh in the box head's coder (Girshick, Fast R-CNN, and detectron2); the RPN's are 1."""


def propose(
    logits: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[jax.Array],
    size: jax.Array,
    *,
    before: int,
    after: int,
    threshold: float = 0.7,
) -> tuple[jax.Array, jax.Array]:
    """The best boxes of all levels of a pyramid, detectron2's `find_top_rpn_proposals`.

    The best `before` anchors of each level are decoded and clipped to the image, those without an inside go, and
    greedy suppression runs level by level; of what stays the best `after` are the proposals.

    Args:
      logits: of each level, [A of the level].
      deltas: of each level, [A of the level, 4].
      anchors: of each level, [A of the level, 4].
      size: int [2], height and width of the image itself.
      before, after: candidates a level before suppression, and proposals an image after it, static.
      threshold: of the suppression, an IoU.

    Returns:
      (boxes [P, 4] with P = `after`, best first; valid bool [P]).
    """
    most = max(min(before, len(of_level)) for of_level in anchors)
    found = []
    for score, delta, anchor in zip(logits, deltas, anchors, strict=True):
        score, index = lax.top_k(lax.stop_gradient(score), min(before, len(anchor)))
        boxes = clip(decode(lax.stop_gradient(delta)[index], jnp.asarray(anchor)[index]), size)
        lacking = most - len(index)
        found.append((jnp.pad(boxes, ((0, lacking), (0, 0))), jnp.pad(score, (0, lacking), constant_values=-jnp.inf)))
    # Padding is empty, and so not valid.
    boxes, scores = (jnp.stack(parts) for parts in zip(*found))
    valid = jnp.all(boxes[..., 2:] > boxes[..., :2], -1) & jnp.isfinite(scores) & jnp.all(jnp.isfinite(boxes), -1)
    keep = jax.vmap(lambda box, score, there: nms(box, score, threshold, valid=there))(boxes, scores, valid)
    index, valid = top_candidates(scores.reshape(-1), keep.reshape(-1), after)
    return boxes.reshape(-1, 4)[index], valid


def match_boxes(
    boxes: jax.Array, valid: jax.Array, candidates: jax.Array, negative: float, positive: float, low_quality: bool
) -> tuple[jax.Array, jax.Array]:
    """`assignment.match` by IoU, whatever the order of the truths: of equal IoUs the leftmost box wins.

    Args:
      boxes: [N, 4], truths.
      valid: bool [N].
      candidates: [A, 4].
      negative, positive, low_quality: as in `match`.

    Returns:
      (truth int32 [A]; role int8 [A]).
    """
    order = _by_place(boxes, valid)
    truth, role = match(pairwise_iou(boxes[order], candidates), valid[order], negative, positive, low_quality)
    return order[truth], role


def sample_regions(
    key: jax.Array,
    proposals: jax.Array,
    proposed: jax.Array,
    boxes: jax.Array,
    valid: jax.Array,
    *,
    count: int,
    fraction: float = 0.25,
    threshold: float = 0.5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The regions that the second stage learns from, detectron2's `label_and_sample_proposals`.

    The truths are proposals too, so that there is a foreground from the first step on. What is drawn depends neither on
    the order of the truths nor on how many slots they have.

    Args:
      key: PRNG key.
      proposals: [P, 4].
      proposed: bool [P], which proposals there are.
      boxes: [N, 4], truths.
      valid: bool [N].
      count: S, static.
      fraction: of S that may be foreground at most.
      threshold: the IoU with a truth from which on a region is foreground.

    Returns:
      (boxes [S, 4]; role int8 [S]: 1 foreground, which comes first, 0 background, -1 nothing; truth int32 [S], of each
      foreground region).
    """
    order = _by_place(boxes, valid)
    boxes, valid = boxes[order], valid[order]
    candidates = lax.stop_gradient(jnp.concatenate([proposals, boxes.astype(proposals.dtype)]))
    truth, role = match(pairwise_iou(boxes, candidates), valid, threshold, threshold)
    role = jnp.where(jnp.concatenate([proposed, valid]), role, IGNORED)
    index, role = sample(role, key, count, fraction)
    return candidates[index], role, order[truth[index]]


def detect(
    logits: jax.Array,
    deltas: jax.Array,
    regions: jax.Array,
    valid: jax.Array,
    size: jax.Array,
    *,
    count: int = 100,
    score: float = 0.05,
    threshold: float = 0.5,
    candidates: int = 2000,
) -> dict[str, jax.Array]:
    """The detections of one image, detectron2's `fast_rcnn_inference_single_image`.

    Every class of every region is a box of its own, decoded and clipped to the image. Those above the score are
    suppressed class by class, and the best of the rest are the detections.

    Args:
      logits: [R, K + 1], background last.
      deltas: [R, K, 4].
      regions: [R, 4].
      valid: bool [R].
      size: int [2], height and width of the image itself.
      count: D, static.
      score: a probability that a detection must exceed.
      threshold: of the suppression, an IoU.
      candidates: how many of the R K boxes, the best ones, suppression sees. Detectron2 shows it all above the score;
        the result is the same unless suppression leaves fewer than `count` of these.

    Returns:
      `box` [D, 4], `class` int32 [D], `score` [D], `valid` bool [D], best first; what is not valid is zero.
    """
    classes = deltas.shape[1]
    chex.assert_shape(logits, (regions.shape[0], classes + 1))
    boxes = clip(decode(lax.stop_gradient(deltas), regions[:, None], BOX_WEIGHTS), size)
    scores = jax.nn.softmax(widen(lax.stop_gradient(logits)))
    whole = valid & jnp.all(jnp.isfinite(boxes), (1, 2)) & jnp.all(jnp.isfinite(scores), -1)
    scores = scores[:, :-1]
    index, there = top_candidates(
        scores.reshape(-1), ((scores > score) & whole[:, None]).reshape(-1), min(candidates, scores.size)
    )
    boxes, scores, classes = boxes.reshape(-1, 4)[index], scores.reshape(-1)[index], index % classes
    keep = nms(boxes, scores, threshold, classes=classes, valid=there)
    index, there = top_candidates(scores, keep, count)
    found = {"box": boxes[index], "class": classes[index], "score": scores[index]}
    zeroed = {name: jnp.where(there.reshape(-1, *(1,) * (value.ndim - 1)), value, 0) for name, value in found.items()}
    return zeroed | {"valid": there}


def _by_place(boxes: jax.Array, valid: jax.Array) -> jax.Array:
    """int32 [N]: the slots, valid ones first, from left to right; of equal x0 from top to bottom, and so on."""
    return jnp.lexsort((*boxes.T[::-1], ~valid)).astype(jnp.int32)
