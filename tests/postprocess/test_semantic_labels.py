from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats

from segjax.core.schema import IGNORE
from segjax.ops.geometry import inside
from segjax.postprocess.semantic import entropy, labels_of, probabilities_of


def test_labels_are_the_argmax_inside_and_void_outside() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    labels = np.asarray(labels_of(scores, np.array([[5, 6], [2, 4]])))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[0], scores[0].argmax(-1))
    np.testing.assert_array_equal(labels[1, :2, :4], scores[1, :2, :4].argmax(-1))
    assert (labels[1] == IGNORE).sum() == 30 - 8


def test_ties_go_to_the_first_class_and_many_classes_need_more_bits() -> None:
    assert np.asarray(labels_of(np.zeros((1, 1, 1, 4), np.float32), np.array([[1, 1]]))).item() == 0
    scores = np.zeros((1, 1, 1, 300), np.float32)
    scores[..., 299] = 1
    labels = labels_of(scores, np.array([[1, 1]]))
    assert labels.dtype == np.int32
    assert labels.item() == 299


def test_inside() -> None:
    mask = np.asarray(inside(np.array([[1, 2], [0, 0]]), 2, 3))
    assert mask.tolist() == [[[True, True, False], [False] * 3], [[False] * 3] * 2]


def test_probabilities_and_entropy_equal_scipy() -> None:
    logits = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype(np.float32) * 4
    shares = probabilities_of(logits)
    expected = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    np.testing.assert_allclose(entropy(shares), scipy.stats.entropy(expected, axis=-1), atol=1e-5)


def test_certainty_has_no_entropy() -> None:
    assert float(entropy(np.array([1.0, 0.0, 0.0]))) == 0
