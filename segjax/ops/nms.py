"""Non-maximum suppression in static shapes: greedy, Fast (YOLACT) and Matrix (SOLOv2).

N candidates of one image. Scores are ranked from high to low, and of equal scores the lower index comes first, as in
torchvision. Candidates of different classes do not meet: the classes are compared, where others shift the boxes of
each class away, which rounds their coordinates. An [N, N] matrix is formed: cut thousands of candidates by
`top_candidates` first.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.boxes import pairwise_iou
from segjax.ops.precision import widen


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    threshold: float,
    *,
    classes: jax.Array | None = None,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Greedy suppression, equal to `torchvision.ops.nms`, or to `batched_nms` with classes.

    A candidate stays unless its IoU with a better one that stays exceeds the threshold. That rule is applied to all at
    once until nothing changes: the i-th best is final after i rounds, so the fixed point is the greedy answer, and it
    is reached after as many rounds as the longest chain of suppressions, 3 to 8 for thousands of proposals.

    Args:
      boxes: [N, 4].
      scores: [N].
      threshold: an IoU that equals it does not suppress.
      classes: integers [N].
      valid: bool [N]; others neither stay nor suppress.

    Returns:
      bool [N] in the order of the arguments: what stays.
    """
    order = _ranking(scores, valid)
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    boxes, valid = boxes[order], valid[order]
    over = (pairwise_iou(boxes, boxes) > threshold) & _rivals(None if classes is None else classes[order], valid)

    def again(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        return state[1]

    def suppress(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        after = valid & ~jnp.any(over & keep[:, None], axis=0)
        return after, jnp.any(after != keep)

    keep, _ = lax.while_loop(again, suppress, (valid, jnp.any(over)))
    return jnp.zeros_like(keep).at[order].set(keep)


def fast_nms(
    boxes: jax.Array,
    scores: jax.Array,
    threshold: float,
    *,
    classes: jax.Array | None = None,
    valid: jax.Array | None = None,
) -> jax.Array:
    """Fast NMS: candidates that are suppressed suppress others too, so there is nothing to iterate.

    Bolya et al., YOLACT, ICCV 2019, section 5. The arguments and the result are those of `nms`; YOLACT ranks the best
    200 of each class, which is this under `vmap` over [K, 200, 4] without `classes`.
    """
    order = _ranking(scores, valid)
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    boxes, valid = boxes[order], valid[order]
    over = (pairwise_iou(boxes, boxes) > threshold) & _rivals(None if classes is None else classes[order], valid)
    keep = valid & ~jnp.any(over, axis=0)
    return jnp.zeros_like(keep).at[order].set(keep)


def matrix_nms(
    iou: jax.Array,
    scores: jax.Array,
    *,
    classes: jax.Array | None = None,
    valid: jax.Array | None = None,
    kernel: str = "gaussian",
    sigma: float = 2.0,
) -> jax.Array:
    """Matrix NMS: scores decay by the overlap with better candidates, instead of candidates going.

    Wang et al., SOLOv2, NeurIPS 2020, section 3.4: the decay of j is the least f(iou_ij) / f(max_k iou_ki) over better
    i, with k better than i. With the linear f the quotient has no value for an i that is a duplicate of a better one;
    that one bounds j alike, so i is passed over.

    Args:
      iou: [N, N], of masks (`mask_iou`) or boxes.
      scores: [N].
      classes: integers [N].
      valid: bool [N]; others get the score 0 and let no other decay.
      kernel: "gaussian", f = exp(-sigma iou^2), or "linear", f = 1 - iou.
      sigma: of the Gaussian.

    Returns:
      [N]: the decayed scores in the order of the arguments.

    Raises:
      ModelError: another kernel.
    """
    if kernel not in ("gaussian", "linear"):
        raise ModelError(f"matrix_nms: kernel={kernel!r} is unknown; use 'gaussian' or 'linear'")
    order = _ranking(scores, valid)
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    rivals = _rivals(None if classes is None else classes[order], valid[order])
    iou = jnp.where(rivals, widen(iou)[order][:, order], 0)
    worst = jnp.max(iou, axis=0)[:, None]
    if kernel == "gaussian":
        decay = jnp.exp(-sigma * (iou**2 - worst**2))
    else:
        decay = jnp.where(worst < 1, (1 - iou) / jnp.where(worst < 1, 1 - worst, 1), 1)
    decay = jnp.min(decay, axis=0, where=rivals, initial=1.0)
    return jnp.where(valid, scores * jnp.zeros_like(decay).at[order].set(decay).astype(scores.dtype), 0)


def mask_iou(masks: jax.Array) -> jax.Array:
    """bool [N, H, W] -> float32 [N, N]: the IoU of every pair, 0 for two empty masks; exact below 2^24 pixels."""
    flat = masks.reshape(masks.shape[0], -1).astype(jnp.float32)
    shared = flat @ flat.T
    union = jnp.diag(shared)[:, None] + jnp.diag(shared) - shared
    return shared / jnp.maximum(union, 1)


def top_candidates(scores: jax.Array, keep: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The best `count` of what stays, best first.

    Args:
      scores: floating [N], above -inf where they stay.
      keep: bool [N].
      count: static; may exceed N.

    Returns:
      (index int32 [count], 0 where there is nothing left; valid bool [count]).
    """
    chosen = min(count, scores.shape[0])
    _, index = lax.top_k(jnp.where(keep, scores, -jnp.inf), chosen)
    index = jnp.pad(index.astype(jnp.int32), (0, count - chosen))
    valid = (jnp.arange(count) < chosen) & keep[index]
    return jnp.where(valid, index, 0), valid


def _ranking(scores: jax.Array, valid: jax.Array | None) -> jax.Array:
    """int32 [N]: the indices, best first; what is not valid comes last, and a NaN before it."""
    if scores.ndim != 1:
        raise ModelError(f"suppression takes the scores [N] of one image; got {scores.shape}; map over batches")
    valid = jnp.ones(scores.shape, bool) if valid is None else valid
    return jnp.lexsort((-scores, ~valid)).astype(jnp.int32)


def _rivals(classes: jax.Array | None, valid: jax.Array) -> jax.Array:
    """bool [N, N] of ranked candidates: i is better than j, and the two may meet."""
    place = jnp.arange(valid.shape[0])
    rivals = (place[:, None] < place) & valid[:, None] & valid
    return rivals if classes is None else rivals & (classes[:, None] == classes)
