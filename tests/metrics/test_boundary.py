"""Boundary F1 against a class-by-class computation with scipy's exact distance transform."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from segjax.core.schema import IGNORE
from segjax.metrics.boundary import boundary_counts, boundary_f1, diagonal_tolerance

count = jax.jit(boundary_counts, static_argnames=("num_classes", "max_tolerance_px"))


def blobs(seed, shape, classes, void=0.1):
    """Label maps with regions of some size, and specks of void."""
    random = np.random.default_rng(seed)
    b, h, w = shape
    coarse = random.integers(0, classes, (b, -(-h // 4), -(-w // 4)))
    fine = coarse.repeat(4, 1).repeat(4, 2)[:, :h, :w].copy()
    noise = random.random(shape)
    fine[noise < 0.05] = random.integers(0, classes)
    fine[noise > 1 - void] = IGNORE
    return fine.astype(np.uint8)


def edge_of(mask, known):
    """Pixels of the mask with a known 4-neighbour outside it."""
    other = np.pad(known & ~mask, 1)
    return mask & (other[:-2, 1:-1] | other[2:, 1:-1] | other[1:-1, :-2] | other[1:-1, 2:])


def within(edge, target, tolerance):
    """How many pixels of `edge` lie within the tolerance of `target`."""
    ndimage = pytest.importorskip("scipy.ndimage")
    if not target.any():
        return 0
    return int((ndimage.distance_transform_edt(~target)[edge] <= tolerance).sum())


def oracle(pred, label, classes, tolerance):
    counts = np.zeros((len(label), classes, 4), int)
    for i, (p, t) in enumerate(zip(pred, label)):
        for k in range(classes):
            true = edge_of(t == k, t < classes)
            guess = edge_of((p == k) & (t < classes), (p < classes) & (t < classes))
            counts[i, k] = within(guess, true, tolerance), guess.sum(), within(true, guess, tolerance), true.sum()
    return counts


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.0, 5.0])
def test_counts_equal_scipy(tolerance):
    label, pred = blobs(1, (3, 21, 26), 4), blobs(2, (3, 21, 26), 4, void=0.02)
    counts = count(pred, label, np.ones(3, bool), 4, tolerance, max_tolerance_px=tolerance)
    expected = oracle(pred, label, 4, tolerance)
    assert expected[..., 0].sum() > 0
    np.testing.assert_array_equal(counts, expected)


def test_more_classes_than_bits_in_a_word():
    label, pred = blobs(3, (1, 40, 40), 70), blobs(4, (1, 40, 40), 70)
    counts = np.asarray(count(pred, label, np.ones(1, bool), 70, 3.0, max_tolerance_px=3.0))
    expected = oracle(pred, label, 70, 3.0)
    assert (expected[0, 64:, 0] > 0).any()
    np.testing.assert_array_equal(counts, expected)


def test_each_image_its_own_tolerance():
    label, pred = blobs(5, (3, 24, 24), 3), blobs(6, (3, 24, 24), 3)
    tolerances = np.array([0.5, 2.0, 4.3], np.float32)
    counts = count(pred, label, np.ones(3, bool), 3, tolerances, max_tolerance_px=5.0)
    expected = [oracle(pred[i : i + 1], label[i : i + 1], 3, tolerances[i])[0] for i in range(3)]
    np.testing.assert_array_equal(counts, expected)


def test_a_tolerance_wider_than_the_image():
    label, pred = blobs(7, (1, 5, 6), 2), blobs(8, (1, 5, 6), 2)
    counts = count(pred, label, np.ones(1, bool), 2, 9.0, max_tolerance_px=9.0)
    np.testing.assert_array_equal(counts, oracle(pred, label, 2, 9.0))


def test_f1_of_images():
    label, pred = blobs(9, (4, 16, 16), 3), blobs(10, (4, 16, 16), 3)
    label[3] = 0
    counts = oracle(pred, label, 3, 1.0)
    f1, present = boundary_f1(counts)
    for i in range(4):
        for k in range(3):
            near_guess, guess, near_true, true = counts[i, k]
            assert bool(present[i, k]) == (true > 0)
            if true and near_guess:
                precision, recall = near_guess / guess, near_true / true
                assert float(f1[i, k]) == pytest.approx(2 / (1 / precision + 1 / recall), rel=1e-6)
            else:
                assert f1[i, k] == 0
    assert not np.asarray(present)[3].any()


def test_perfect_missed_and_out_of_reach():
    label = np.zeros((3, 8, 20), np.uint8)
    label[:, :, :5] = 1
    pred = label.copy()
    pred[1] = 0
    pred[2, :, :9] = 1
    f1, present = boundary_f1(boundary_counts(pred, label, np.ones(3, bool), 2, 3.0))
    assert np.asarray(present).all()
    np.testing.assert_array_equal(f1, [[1, 1], [0, 0], [0, 0]])
    assert np.all(np.asarray(boundary_f1(boundary_counts(pred, label, np.ones(3, bool), 2, 4.0))[0])[2] == 1)


@pytest.mark.parametrize("mask", ["image", "pixels"])
def test_padding_does_not_count(mask):
    label, pred = blobs(11, (2, 12, 12), 3), blobs(12, (2, 12, 12), 3)
    run = functools.partial(count, num_classes=3, tolerance_px=2.0, max_tolerance_px=2.0)
    if mask == "image":
        counts = np.asarray(run(pred, label, np.array([True, False])))
        assert not counts[1].any()
        np.testing.assert_array_equal(counts[0], run(pred[:1], label[:1], np.ones(1, bool))[0])
    else:
        inside = np.zeros(label.shape, bool)
        inside[:, :9, :7] = True
        expected = run(pred[:, :9, :7], label[:, :9, :7], np.ones(2, bool))
        np.testing.assert_array_equal(run(pred, label, inside), expected)


def test_the_edge_of_void_is_no_outline():
    label = np.zeros((1, 8, 8), np.uint8)
    label[:, 2:6, 2:6] = IGNORE
    pred = np.zeros((1, 8, 8), np.uint8)
    pred[:, 2:6, 2:6] = 1
    assert not np.asarray(boundary_counts(pred, label, np.ones(1, bool), 2, 2.0)).any()


def test_tolerance_of_a_size():
    assert diagonal_tolerance(360, 480) == pytest.approx(4.5)
