"""The confusion matrix and its scores against scikit-learn and a count pixel by pixel."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE
from segjax.metrics.confusion import confusion, scores

K = 5
SHAPE = (3, 7, 9)

count = jax.jit(confusion, static_argnums=3)

# Class K - 1 seldom or never occurs, so that absent classes are met; 255 and K are both void.
maps = hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, K - 1, K, IGNORE]))


def matrix_of(pred, label, valid=(True,) * SHAPE[0]):
    return np.asarray(count(pred, label, np.asarray(valid), K)).astype(np.int64)


@settings(max_examples=60, deadline=None)
@given(maps, maps, hnp.arrays(bool, SHAPE[0]))
def test_matrix_equals_scikit_learn(pred, label, valid):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, guess = (np.minimum(x[valid], K).ravel() for x in (label, pred))
    if truth.size:
        expected = metrics.confusion_matrix(truth, guess, labels=np.arange(K + 1))
    else:
        expected = np.zeros((K + 1, K + 1))
    np.testing.assert_array_equal(matrix_of(pred, label, valid), expected)


def brute_force(pred, label, void):
    """Per-class IoU, accuracy, dice and the overall scores by sets of pixels, in float64."""
    label, pred = np.minimum(label, K).ravel(), np.minimum(pred, K).ravel()
    if void == "ignore":
        keep = label < K
    elif void == "drop":
        keep = (label < K) & (pred < K)
    else:
        keep = np.full(label.shape, True)
    label, pred = label[keep], pred[keep]
    iou, accuracy, dice, truth = (np.full(K, np.nan) for _ in range(4))
    for k in range(K):
        t, p = label == k, pred == k
        both, either = (t & p).sum(), (t | p).sum()
        truth[k] = t.sum()
        if either:
            iou[k], dice[k] = both / either, 2 * both / (t.sum() + p.sum())
        if t.any():
            accuracy[k] = both / t.sum()
    known = label < K
    overall = np.mean(label[known] == pred[known]) if known.any() else np.nan
    fwiou = np.nansum(truth * iou) / truth.sum() if truth.sum() else np.nan
    return iou, accuracy, dice, overall, fwiou


@pytest.mark.parametrize("void", ["ignore", "union", "drop"])
@settings(max_examples=60, deadline=None)
@given(maps, maps)
def test_scores_equal_brute_force(void, pred, label):
    iou, accuracy, dice, overall, fwiou = brute_force(pred, label, void)
    result = scores(matrix_of(pred, label), void)
    np.testing.assert_allclose(result["per_class_iou"], iou, rtol=1e-12)
    np.testing.assert_allclose(result["per_class_accuracy"], accuracy, rtol=1e-12)
    np.testing.assert_allclose(result["per_class_dice"], dice, rtol=1e-12)
    np.testing.assert_allclose(result["pixel_accuracy"], overall, rtol=1e-12)
    np.testing.assert_allclose(result["fwiou"], fwiou, rtol=1e-12)
    for mean, values in (("miou", iou), ("mean_accuracy", accuracy), ("mean_dice", dice)):
        known = values[~np.isnan(values)]
        np.testing.assert_allclose(result[mean], known.mean() if known.size else np.nan, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(seed)
    label, pred = random.integers(0, K, (2, *SHAPE)).astype(np.uint8)
    label[random.random(SHAPE) < 0.3] = IGNORE
    result = scores(matrix_of(pred, label))
    truth, guess = label[label != IGNORE], pred[label != IGNORE]
    np.testing.assert_allclose(result["per_class_iou"], metrics.jaccard_score(truth, guess, average=None))
    np.testing.assert_allclose(result["per_class_dice"], metrics.f1_score(truth, guess, average=None))
    np.testing.assert_allclose(result["mean_dice"], metrics.f1_score(truth, guess, average="macro"))
    np.testing.assert_allclose(result["miou"], metrics.jaccard_score(truth, guess, average="macro"))
    np.testing.assert_allclose(result["fwiou"], metrics.jaccard_score(truth, guess, average="weighted"))
    np.testing.assert_allclose(result["mean_accuracy"], metrics.balanced_accuracy_score(truth, guess))
    np.testing.assert_allclose(result["pixel_accuracy"], metrics.accuracy_score(truth, guess))


def test_conventions_differ_where_they_should():
    label = np.array([[[0, 0, IGNORE, 0]]], np.uint8)
    pred = np.array([[[0, 0, 0, IGNORE]]], np.uint8)
    matrix = np.asarray(confusion(pred, label, np.array([True]), 1))
    assert scores(matrix, "ignore")["miou"] == pytest.approx(2 / 3)
    assert scores(matrix, "union")["miou"] == pytest.approx(2 / 4)
    assert scores(matrix, "drop")["miou"] == 1


def test_pixel_mask_and_negative_labels():
    label = np.array([[[0, 1, -1, 1]]], np.int32)
    pred = np.array([[[0, 0, 1, -7]]], np.int32)
    mask = np.array([[[True, True, True, False]]])
    np.testing.assert_array_equal(confusion(pred, label, mask, 2), [[1, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_counts_beyond_int32_survive_the_host():
    matrix = np.diag(np.array([2**40, 2**33, 0]))
    matrix[0, 1] = 2**40
    result = scores(matrix)
    assert result["per_class_iou"][0] == 0.5
    assert result["per_class_iou"][1] == 2**33 / (2**33 + 2**40)


def test_nothing_counted_is_nan_without_a_warning(recwarn):
    result = scores(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value).all() for value in result.values())
    assert not recwarn.list


def test_unknown_convention():
    with pytest.raises(ConfigError, match=r"'ignored'.*Did you mean 'ignore'"):
        scores(np.zeros((3, 3)), "ignored")
