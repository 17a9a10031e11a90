"""Where classes meet, by other people's filters, and the focal loss there by its formula in float64."""

from __future__ import annotations

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from segjax.core.schema import IGNORE
from segjax.losses.border import border_labels, border_loss

K = 6

jitted_labels = jax.jit(border_labels, static_argnums=(2, 3))


def scene(seed=0):
    """Labels [2, 40, 50] in blocks of 10, with void pixels and a void region, and a mask with a hole."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, K, (2, 4, 5)).repeat(10, 1).repeat(10, 2).astype(np.uint8)
    labels[random.random(labels.shape) < 0.02] = IGNORE
    labels[1, 10:20, 10:25] = IGNORE
    valid = np.ones(labels.shape, bool)
    valid[0, :4, :9] = False
    return labels, valid


@pytest.mark.parametrize("radius", [1, 3, 4])
def test_border_is_where_a_window_holds_two_classes(radius):
    labels, valid = scene()
    found = np.asarray(jitted_labels(labels, valid, K, radius))
    known = valid & (labels != IGNORE)
    window = 2 * radius + 1
    for y, seen, border in zip(labels.astype(int), known, found):
        largest = maximum_filter(np.where(seen, y, -9), window, mode="constant", cval=-9)
        smallest = minimum_filter(np.where(seen, y, 99), window, mode="constant", cval=99)
        np.testing.assert_array_equal(border, np.where(seen, largest != smallest, IGNORE))
    assert set(np.unique(found)) == {0, 1, IGNORE}


def test_void_is_no_class_and_hides_the_one_behind_it():
    labels = np.full((1, 1, 12), 2)
    labels[0, 0, 5:] = IGNORE
    found = jitted_labels(labels, np.ones(labels.shape, bool), K)
    np.testing.assert_array_equal(found[0, 0], [0] * 5 + [IGNORE] * 7)
    labels[0, 0, 7:] = 4
    found = jitted_labels(labels, np.ones(labels.shape, bool), K)
    np.testing.assert_array_equal(found[0, 0], [0] * 4 + [1] + [IGNORE] * 2 + [1] + [0] * 4)


def test_border_is_cannys_band():
    """TorchSeg's: Canny's edges, of which each is one pixel thick, widened by a square of 7."""
    labels = np.zeros((1, 64, 96), np.uint8)
    labels[0, :, 30:] = 3
    labels[0, 20:44, 50:80] = 5
    theirs = cv2.dilate(cv2.Canny(labels[0], 5, 5, apertureSize=7), np.ones((7, 7), np.uint8)) > 0
    ours = np.asarray(jitted_labels(labels, np.ones(labels.shape, bool), K))[0] == 1
    assert not np.any(ours & ~cv2.dilate(theirs.astype(np.uint8), np.ones((3, 3))).astype(bool))
    assert not np.any(theirs & ~cv2.dilate(ours.astype(np.uint8), np.ones((3, 3))).astype(bool))
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.8


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5)])
def test_loss_by_hand(gamma, alpha):
    labels, valid = scene(1)
    logits = np.random.default_rng(2).normal(0, 3, (*labels.shape, 3)).astype(np.float32)
    loss = functools.partial(border_loss, num_classes=K, gamma=gamma, alpha=alpha)
    values, weights = jax.jit(loss)(logits, labels, valid)
    for i, border in enumerate(np.asarray(jitted_labels(labels, valid, K))):
        known = border != IGNORE
        z, t = logits[i][known].astype(np.float64), border[known][:, None]
        p = 1 / (1 + np.exp(np.where(t, -z, z)))
        expected = (np.where(t, alpha, 1 - alpha) * (1 - p) ** gamma * -np.log(p)).sum(-1).mean()
        assert float(values[i]) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(weights, [1, 1])


def test_descent_finds_the_border():
    """What the reference's formula does not: its gradient has one sign, whatever the label."""
    labels, valid = scene(3)
    border = np.asarray(jitted_labels(labels, valid, K))
    slope = jax.jit(jax.grad(lambda z: border_loss(z, labels, valid, K)[0].sum()))(jnp.zeros((*labels.shape, 1)))[
        ..., 0
    ]
    assert np.all(slope[border == 1] < 0)
    assert np.all(slope[border == 0] > 0)
    assert not np.any(slope[border == IGNORE])
