"""The hard-pixel cross entropy and the regressions of maps against NumPy in float64."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from segjax.core.schema import IGNORE
from segjax.losses.hard_cross_entropy import hard_cross_entropy, hard_pixels
from segjax.losses.regression import absolute_error, squared_error

K, SHAPE = 4, (3, 6, 7)
loss = jax.jit(hard_cross_entropy, static_argnames="share")


def example(seed: int = 0):
    """Logits, labels with void, validity (of the last image none), weights 1 or 3."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 3, IGNORE], SHAPE)
    valid = np.broadcast_to((np.arange(3) < 2)[:, None, None], SHAPE)
    return rng.normal(size=(*SHAPE, K)), labels, valid, rng.choice([1.0, 3.0], SHAPE)


def by_sorting(logits, labels, valid, weights, share):
    """[B] sums and [B] numbers of the largest losses."""
    sums, counts = [], []
    for image in range(len(labels)):
        known = valid[image] & (labels[image] != IGNORE)
        surprise = -scipy.special.log_softmax(logits[image][known], axis=-1)[
            np.arange(known.sum()), labels[image][known]
        ]
        kept = min(max(int(share * known.sum()), 1), known.sum())
        sums.append(np.sort(weights[image][known] * surprise)[::-1][:kept].sum())
        counts.append(kept)
    return np.array(sums), np.array(counts)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_sums_of_the_largest_losses(share):
    arrays = example()
    sums, counts = by_sorting(*arrays, share)
    np.testing.assert_allclose(loss(*arrays, share=share), sums, rtol=1e-5)
    assert hard_pixels(arrays[1], arrays[2], K, share).tolist() == counts.tolist()
    assert counts[2] == 0


def test_pixels_of_equal_loss_share_what_is_left():
    labels, valid = np.zeros((1, 2, 5), int), np.ones((1, 2, 5), bool)
    slope = jax.grad(lambda logits: hard_cross_entropy(logits, labels, valid, np.ones((1, 2, 5)), 0.3).sum())
    logits = jnp.zeros((1, 2, 5, 2))
    value = hard_cross_entropy(logits, labels, valid, np.ones((1, 2, 5)), 0.3)
    np.testing.assert_allclose(value, [3 * np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(slope(logits)[..., 0], np.full((1, 2, 5), -0.5 * 0.3), rtol=1e-6)


def test_gradient_is_that_of_the_pixels_kept():
    logits, labels, valid, weights = example(1)
    gradient = jax.grad(lambda x: loss(x, labels, valid, weights, share=0.3).sum())(jnp.asarray(logits))
    step, direction = 1e-6, np.random.default_rng(2).normal(size=logits.shape)
    difference = by_sorting(logits + step * direction, labels, valid, weights, 0.3)[0]
    difference = (difference - by_sorting(logits - step * direction, labels, valid, weights, 0.3)[0]).sum() / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(difference, rel=1e-4)


def test_what_does_not_count_reaches_nothing():
    logits, labels, valid, weights = example()
    other = np.where((valid & (labels != IGNORE))[..., None], logits, np.nan)
    run = jax.value_and_grad(lambda x: loss(x, labels, valid, weights, share=0.2).sum())
    chex.assert_trees_all_equal(run(jnp.asarray(logits)), run(jnp.asarray(other)))


@pytest.mark.parametrize(("error", "power"), [(absolute_error, 1), (squared_error, 2)])
def test_regressions_add_up_where_there_is_a_target(error, power):
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(2, *SHAPE, 2))
    counted = rng.random(SHAPE) < 0.5
    expected = (np.abs(values - targets) ** power * counted[..., None]).sum((1, 2, 3))
    np.testing.assert_allclose(jax.jit(error)(values, targets, counted), expected, rtol=1e-5)
    lost = np.where(counted[..., None], values, np.inf)
    slope = jax.grad(lambda x: error(x, targets, counted).sum())(jnp.asarray(lost))
    assert np.isfinite(slope).all()
    assert not np.asarray(slope)[~counted].any()
