"""Suppression against torchvision's committed answers, and against loops in numpy."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.boxes import pairwise_iou
from segjax.ops.nms import fast_nms, mask_iou, matrix_nms, nms, top_candidates

SAVED = np.load(Path(__file__).parent / "fixtures" / "nms.npz")


def ranked(keep, scores):
    """The index list that torchvision returns."""
    index, valid = top_candidates(jnp.asarray(scores), keep, len(scores))
    return np.asarray(index)[np.asarray(valid)]


@pytest.mark.parametrize("case", [0, 1])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_greedy_equals_torchvision(case, threshold):
    boxes, scores, classes = (SAVED[f"{name}{case}"] for name in ("boxes", "scores", "classes"))
    np.testing.assert_array_equal(ranked(nms(boxes, scores, threshold), scores), SAVED[f"nms{case}_{threshold}"])
    keep = nms(boxes, scores, threshold, classes=classes)
    # batched_nms sorts without regard to ties at the end.
    assert set(ranked(keep, scores)) == set(SAVED[f"batched{case}_{threshold}"])


def test_an_iou_that_equals_the_threshold_stays():
    boxes, scores = SAVED["equal_boxes"], SAVED["equal_scores"]
    np.testing.assert_array_equal(ranked(nms(boxes, scores, 0.5), scores), SAVED["equal_nms"])
    assert 1 in SAVED["equal_nms"]


def test_a_chain_takes_as_many_rounds_as_it_is_long():
    boxes = np.stack([np.arange(40.0), np.zeros(40), np.arange(40.0) + 3, np.ones(40)], 1)
    keep = nms(boxes, -np.arange(40.0), 0.4)  # neighbours overlap by 1/2, the next by 1/5
    np.testing.assert_array_equal(keep, np.arange(40) % 2 == 0)


def test_invalid_candidates_neither_stay_nor_suppress_and_a_batch_needs_no_retracing(jit_once):
    boxes, scores = jnp.asarray(SAVED["boxes0"]), jnp.asarray(SAVED["scores0"])
    valid = np.random.default_rng(0).uniform(size=(2, len(scores))) < 0.6
    valid[1] = False
    run = jit_once(jax.vmap(lambda v: nms(boxes, scores, 0.3, valid=v)))
    for batch in (valid, ~valid):
        keep = np.asarray(run(batch))
        for v, kept in zip(batch, keep):
            expected = np.zeros(len(v), bool)
            if v.any():
                expected[v] = nms(boxes[v], scores[v], 0.3)
            np.testing.assert_array_equal(kept, expected)


def numpy_fast(boxes, scores, threshold, classes):
    """YOLACT, class by class: the largest IoU with any box of a higher score decides."""
    keep = np.zeros(len(scores), bool)
    for k in np.unique(classes):
        index = np.flatnonzero(classes == k)
        index = index[np.argsort(-scores[index], kind="stable")]
        overlap = np.triu(np.asarray(pairwise_iou(boxes[index], boxes[index])), 1)
        keep[index] = overlap.max(0) <= threshold
    return keep


def test_fast_equals_its_definition_and_removes_more():
    boxes, scores, classes = (SAVED[f"{name}1"] for name in ("boxes", "scores", "classes"))
    fast = np.asarray(fast_nms(boxes, scores, 0.3, classes=classes))
    np.testing.assert_array_equal(fast, numpy_fast(boxes, scores, 0.3, classes))
    greedy = np.asarray(nms(boxes, scores, 0.3, classes=classes))
    assert np.all(greedy[fast])
    assert fast.sum() < greedy.sum()
    half = np.arange(len(scores)) % 2 == 0
    fast = fast_nms(boxes, scores, 0.3, classes=classes, valid=half)
    np.testing.assert_array_equal(np.asarray(fast)[half], numpy_fast(boxes[half], scores[half], 0.3, classes[half]))
    assert not np.any(fast[~half])


def numpy_matrix(iou, scores, classes, kernel, sigma):
    order = np.argsort(-scores, kind="stable")
    f = {"gaussian": lambda x: np.exp(-sigma * x**2), "linear": lambda x: 1 - x}[kernel]
    decayed = np.zeros(len(scores))
    for place, j in enumerate(order):
        decay = 1.0
        for before, i in enumerate(order[:place]):
            if classes[i] == classes[j]:
                worst = max([iou[k, i] for k in order[:before] if classes[k] == classes[i]], default=0.0)
                decay = min(decay, f(iou[i, j]) / f(worst))
        decayed[j] = scores[j] * decay
    return decayed


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_equals_its_definition(kernel):
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(24, 6, 6)) < rng.uniform(0.2, 0.8, (24, 1, 1))
    scores, classes = np.round(rng.uniform(size=24), 1).astype(np.float32), rng.integers(0, 2, 24)
    iou = np.asarray(mask_iou(jnp.asarray(masks)))
    flat = masks.reshape(24, -1)
    both = (flat[:, None] & flat).sum(-1) / np.maximum((flat[:, None] | flat).sum(-1), 1)
    np.testing.assert_allclose(iou, both, rtol=1e-6)
    assert np.max(iou - np.eye(24)) < 1  # the definition divides by 0 at duplicates
    expected = numpy_matrix(both, scores, classes, kernel, 2.0)
    np.testing.assert_allclose(matrix_nms(iou, scores, classes=classes, kernel=kernel), expected, rtol=1e-5)
    valid = np.arange(24) % 3 > 0
    some = numpy_matrix(both[valid][:, valid], scores[valid], classes[valid], kernel, 2.0)
    decayed = np.asarray(matrix_nms(iou, scores, classes=classes, valid=valid, kernel=kernel))
    np.testing.assert_allclose(decayed[valid], some, rtol=1e-5)
    assert not np.any(decayed[~valid])


def test_linear_matrix_is_finite_at_duplicates():
    iou = jnp.array([[1.0, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 1]])
    decayed = matrix_nms(iou, jnp.array([0.9, 0.8, 0.7]), kernel="linear")
    np.testing.assert_allclose(decayed, [0.9, 0, 0.35], rtol=1e-6)
    with pytest.raises(ModelError, match="'gaussian' or 'linear'"):
        matrix_nms(iou, jnp.ones(3), kernel="exp")


def test_top_candidates_pad_what_is_missing():
    scores, keep = jnp.array([0.1, 0.9, 0.5, 0.7]), jnp.array([True, False, True, True])
    for count, index, valid in [(2, [3, 2], [1, 1]), (6, [3, 2, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0])]:
        got = top_candidates(scores, keep, count)
        np.testing.assert_array_equal(got[0], index)
        np.testing.assert_array_equal(got[1], valid)
    assert not np.any(top_candidates(scores, jnp.zeros(4, bool), 3)[1])


def test_scores_of_a_batch_are_refused():
    with pytest.raises(ModelError, match="map over batches"):
        nms(jnp.zeros((2, 3, 4)), jnp.zeros((2, 3)), 0.5)
