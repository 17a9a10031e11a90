"""Who learns what: candidates matched to truths, a sample of them, and the optimal one-to-one assignment.

Of one image. G truths, some of them padding; A candidates (anchors, proposals, queries); S samples.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.core.errors import ModelError
from segjax.ops.precision import widen

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(
    quality: jax.Array,
    valid: jax.Array,
    negative: float,
    positive: float,
    low_quality: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Each candidate's best truth, and whether it is good enough: detectron2's matcher.

    Detectron2 has 0.3, 0.7 and low-quality matches for the RPN, 0.5 and 0.5 without them for the box head.

    Args:
      quality: floating [G, A], IoU; no gradient.
      valid: bool [G]; an invalid truth matches nothing. Without a valid one every candidate is negative.
      negative: candidates below it are negative.
      positive: candidates from it on are positive; those between are ignored.
      low_quality: the candidates that fit a truth best, all that tie, are positive as well, whatever their IoU, and
        keep their own best truth (Ren et al., Faster R-CNN, section 3.1.2). A truth that no candidate touches has no
        best one; detectron2 makes all of IoU 0 positive then.

    Returns:
      (truth int32 [A], the first of equal ones; role int8 [A]: 1 positive, 0 negative, -1 ignored).

    Raises:
      ModelError: negative above positive.
    """
    if negative > positive:
        raise ModelError(f"match: negative={negative} exceeds positive={positive}; a candidate cannot be both")
    chex.assert_rank(quality, 2)
    chex.assert_shape(valid, quality.shape[:1])
    quality = jnp.where(valid[:, None], lax.stop_gradient(quality), -1)
    truth = jnp.argmax(quality, axis=0).astype(jnp.int32)
    best = jnp.max(quality, axis=0)
    role = jnp.where(best >= positive, POSITIVE, jnp.where(best < negative, NEGATIVE, IGNORED))
    if low_quality:
        # By place, and by value for the rest: XLA may compute the quality anew in each reader and round differently.
        place = jnp.argmax(quality, axis=1)
        of_truth = jnp.take_along_axis(quality, place[:, None], axis=1)
        touched = of_truth > 0
        ties = jnp.any((quality == of_truth) & touched, axis=0)
        ties = ties.at[jnp.where(touched[:, 0], place, quality.shape[1])].set(True, mode="drop")
        role = jnp.where(ties, POSITIVE, role)
    return truth, role.astype(jnp.int8)


def sample(role: jax.Array, key: jax.Array, count: int, fraction: float) -> tuple[jax.Array, jax.Array]:
    """Draws candidates without replacement, as detectron2 does: positives up to a share, then negatives.

    Detectron2 draws 256 anchors at 0.5 and 512 proposals at 0.25. Fewer positives make room for negatives, not the
    other way round.

    Args:
      role: int [A] of `match`.
      key: PRNG key; one for each image.
      count: S, static.
      fraction: of S that may be positive at most; rounded down.

    Returns:
      (index int32 [S], positives first; role int8 [S]: 1, 0, or -1 for what is left over, whose index is 0).

    Raises:
      ModelError: a count that is not positive, or a fraction outside 0..1.
    """
    if count < 1 or not 0 <= fraction <= 1:
        raise ModelError(f"sample: count={count} must be positive and fraction={fraction} within 0..1")
    chex.assert_rank(role, 1)
    most = int(count * fraction)
    rank = jax.random.uniform(key, role.shape)

    def draw(wanted: int, number: int) -> tuple[jax.Array, jax.Array]:
        """(index [number] of candidates of one role at random; how many there are)."""
        limit = min(number, role.shape[0])
        _, index = lax.top_k(jnp.where(role == wanted, rank, -1.0), limit)
        return jnp.pad(index, (0, number - limit)), jnp.minimum(jnp.sum(role == wanted), number)

    positives, taken = draw(POSITIVE, most)
    negatives, left = draw(NEGATIVE, count)
    slot = jnp.arange(count)
    drawn = jnp.where(slot < taken, POSITIVE, jnp.where(slot < taken + left, NEGATIVE, IGNORED))
    of_positives = jnp.pad(positives, (0, count - most))
    index = jnp.where(slot < taken, of_positives, negatives[jnp.clip(slot - taken, 0, count - 1)])
    return jnp.where(drawn == IGNORED, 0, index).astype(jnp.int32), drawn.astype(jnp.int8)


def hungarian(cost: jax.Array, valid: jax.Array) -> jax.Array:
    """The one-to-one assignment of truths to candidates of the least total cost.

    Shortest augmenting paths (Crouse, On implementing 2D rectangular assignment algorithms, IEEE TAES 2016, as SciPy
    has it): each valid truth in turn finds the cheapest path to a free candidate, in at most as many steps as truths
    came before it. Padding costs nothing. Under `vmap` the loops run as long as the slowest image's; map over decoder
    layers as well as images, at once.

    Args:
      cost: floating [G, A] with G <= A; no gradient. A NaN or an infinity counts as so much, of its sign, that it is
        taken only, or first, of all; a NaN as positive.
      valid: bool [G].

    Returns:
      int32 [G]: the candidate of each truth, -1 for an invalid one. Of several optimal assignments it is one.

    Raises:
      ModelError: not a matrix with at least as many candidates as truths.
    """
    if cost.ndim != 2 or cost.shape[0] > cost.shape[1]:
        raise ModelError(f"hungarian: cost {cost.shape} is not [truths, candidates] with truths <= candidates")
    truths, candidates = cost.shape
    chex.assert_shape(valid, (truths,))
    cost = _finite(lax.stop_gradient(widen(cost)), valid)
    order = jnp.argsort(~valid, stable=True).astype(jnp.int32)  # the valid ones first
    infinity = jnp.asarray(jnp.inf, cost.dtype)

    def augment(turn, state):
        truth_of, candidate_of, of_truth, of_candidate = state
        start = order[turn]

        def search(path):
            row, sink, least, shortest, before, scanned = path
            length = least + cost[row] - of_truth[row] - of_candidate
            shorter = ~scanned & (length < shortest)
            shortest, before = jnp.where(shorter, length, shortest), jnp.where(shorter, row, before)
            column = jnp.argmin(jnp.where(scanned, infinity, shortest)).astype(jnp.int32)
            row = truth_of[column]
            sink = jnp.where(row < 0, column, -1)
            return row, sink, shortest[column], shortest, before, scanned.at[column].set(True)

        path = (
            start,
            jnp.int32(-1),
            jnp.zeros((), cost.dtype),
            jnp.full((candidates,), infinity),
            jnp.full((candidates,), start),
            jnp.zeros((candidates,), bool),
        )
        # A step scans a candidate that was not scanned yet, so the search ends with the truths that are assigned.
        _, sink, least, shortest, before, scanned = lax.while_loop(lambda path: path[1] < 0, search, path)

        passed = jnp.where(scanned, least - shortest, 0)  # 0 at the sink
        rows = jnp.where(scanned & (truth_of >= 0), truth_of, truths)
        of_truth = of_truth.at[rows].add(passed, mode="drop").at[start].add(least)
        of_candidate = of_candidate - passed

        def flip(ends):
            column, truth_of, candidate_of = ends
            row = before[column]
            return candidate_of[row], truth_of.at[column].set(row), candidate_of.at[row].set(column)

        # Back along the path; the truth it began with had no candidate.
        ends = (sink, truth_of, candidate_of)
        _, truth_of, candidate_of = lax.while_loop(lambda ends: ends[0] >= 0, flip, ends)
        return truth_of, candidate_of, of_truth, of_candidate

    state = (
        jnp.full((candidates,), -1, jnp.int32),
        jnp.full((truths,), -1, jnp.int32),
        jnp.zeros((truths,), cost.dtype),
        jnp.zeros((candidates,), cost.dtype),
    )
    return lax.fori_loop(0, jnp.sum(valid), augment, state)[1]


def _finite(cost: jax.Array, valid: jax.Array) -> jax.Array:
    """Costs without NaN and infinities, which would make the search endless; padding is 0."""
    finite = jnp.isfinite(cost)
    largest = jnp.max(jnp.abs(cost), initial=0, where=finite & valid[:, None])
    worst = 2 * cost.shape[0] * (largest + 1)  # more than any change of the finite ones can save
    cost = jnp.where(finite, cost, jnp.where(cost < 0, -worst, worst))
    return jnp.where(valid[:, None], cost, 0)
