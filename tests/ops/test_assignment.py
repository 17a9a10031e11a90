"""Matching against detectron2's own test and loops; sampling by its counts; the assignment against SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from segjax.core.errors import ModelError
from segjax.ops.assignment import hungarian, match, sample

# tests/modeling/test_matcher.py of detectron2: thresholds 0.3 and 0.7 with low-quality matches.
QUALITY = np.float32([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])


def test_match_equals_detectron2():
    truth, role = match(QUALITY, np.ones(3, bool), 0.3, 0.7, low_quality=True)
    np.testing.assert_array_equal(truth, [1, 1, 2, 0])
    np.testing.assert_array_equal(role, [-1, 1, 0, 1])


def loop_match(quality, valid, negative, positive, low_quality):
    truths, candidates = quality.shape
    truth, role = np.zeros(candidates, int), np.zeros(candidates, int)
    for a in range(candidates):
        best = -1.0
        for g in range(truths):
            if valid[g] and quality[g, a] > best:
                best, truth[a] = quality[g, a], g
        role[a] = 1 if best >= positive else 0 if best < negative else -1
    for g in range(truths):
        if low_quality and valid[g] and quality[g].max() > 0:
            role[quality[g] == quality[g].max()] = 1
    return truth, role


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("thresholds", [(0.3, 0.7), (0.5, 0.5)])
def test_match_equals_loops_with_ties_padding_and_untouched_truths(thresholds, low_quality, jit_once):
    rng = np.random.default_rng(0)
    quality = np.round(rng.uniform(size=(4, 6, 40)) ** 2, 1).astype(np.float32)  # many ties, thresholds hit exactly
    quality[:, 3:5] = np.round(quality[:, 3:5] * 0.25, 1)  # the best is bad, and many tie
    quality[0, 2] = 0  # nothing touches it
    valid = rng.uniform(size=(4, 6)) < 0.7
    valid[3] = False
    run = jit_once(jax.vmap(lambda q, v: match(q, v, *thresholds, low_quality)))
    for order in (slice(None), slice(None, None, -1)):
        truth, role = run(quality[order], valid[order])
        assert role.dtype == jnp.int8
        for i in range(4):
            expected = loop_match(quality[order][i], valid[order][i], *map(np.float32, thresholds), low_quality)
            np.testing.assert_array_equal(truth[i], expected[0])
            np.testing.assert_array_equal(role[i], expected[1])
    assert not np.any(match(quality[3], valid[3], *thresholds, low_quality)[1])


def test_thresholds_in_order():
    with pytest.raises(ModelError, match=r"negative=0\.7 exceeds positive=0\.3"):
        match(QUALITY, np.ones(3, bool), 0.7, 0.3)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [(20, 50, (8, 24)), (3, 50, (3, 29)), (0, 50, (0, 32)), (20, 10, (8, 10)), (0, 0, (0, 0)), (5, 0, (5, 0))],
)
def test_sample_has_detectron2_counts(positives, negatives, expected):
    role = np.concatenate([np.ones(positives), np.zeros(negatives), -np.ones(7)]).astype(np.int8)
    role = np.random.default_rng(0).permutation(role)
    index, drawn = (np.asarray(a) for a in sample(role, jax.random.key(0), 32, 0.25))
    assert ((drawn == 1).sum(), (drawn == 0).sum()) == expected
    assert np.all(np.diff(np.where(drawn == 1, 2, drawn == 0)) <= 0)  # positives, negatives, rest
    real = drawn >= 0
    np.testing.assert_array_equal(role[index[real]], drawn[real])
    assert len(np.unique(index[real])) == real.sum()
    assert not np.any(index[~real])


def test_sample_is_uniform_and_takes_fewer_candidates_than_samples():
    role = np.int8([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, -1])
    index, drawn = jax.vmap(lambda key: sample(role, key, 4, 0.5))(jax.random.split(jax.random.key(1), 3000))
    times = np.bincount(np.asarray(index).ravel(), minlength=11) / 3000
    # 2 of 4 positives, 2 of 6 negatives; the standard deviation is under 0.01.
    np.testing.assert_allclose(times, [0.5] * 4 + [1 / 3] * 6 + [0], atol=0.04)
    index, drawn = sample(role[:5], jax.random.key(0), 9, 0.5)
    np.testing.assert_array_equal(drawn, [1] * 4 + [0] + [-1] * 4)
    assert sorted(np.asarray(index)[:5]) == [0, 1, 2, 3, 4]
    with pytest.raises(ModelError, match="fraction=2"):
        sample(role, jax.random.key(0), 4, 2)


def total(cost, columns):
    rows = np.flatnonzero(columns >= 0)
    return cost[rows, columns[rows]].sum()


@pytest.mark.parametrize(("truths", "candidates"), [(1, 1), (5, 5), (6, 20), (30, 100)])
@pytest.mark.parametrize("kind", ["normal", "ties", "offset"])
def test_hungarian_costs_what_scipy_does(truths, candidates, kind, jit_once):
    rng = np.random.default_rng(0)
    cost = rng.normal(size=(6, truths, candidates))
    if kind == "ties":
        cost = np.round(cost)
    if kind == "offset":
        cost = cost * 1e-2 + rng.normal(size=(6, 1, candidates)) * 10
    cost = cost.astype(np.float32)
    valid = rng.uniform(size=(6, truths)) < 0.7
    valid[0], valid[1] = True, False
    run = jit_once(jax.vmap(hungarian))
    for order in (slice(None), slice(None, None, -1)):
        columns = np.asarray(run(cost[order], valid[order]))
        for i in range(6):
            c, v, found = cost[order][i], valid[order][i], columns[i]
            np.testing.assert_array_equal(found >= 0, v)
            assert len(np.unique(found[v])) == v.sum()
            best = c[v][linear_sum_assignment(c[v])].sum()
            np.testing.assert_allclose(total(c, found), best, rtol=1e-5, atol=1e-4)


def test_hungarian_in_float64_is_exact():
    with jax.enable_x64(True):
        cost = np.random.default_rng(1).normal(size=(20, 25))
        columns = np.asarray(hungarian(jnp.asarray(cost), np.ones(20, bool)))
        np.testing.assert_array_equal(columns, linear_sum_assignment(cost)[1])


def test_hungarian_ends_with_nan_and_infinity_and_avoids_them():
    cost = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    cost[0, :7] = np.nan
    cost[1, :6] = np.inf
    cost[2, 3] = -np.inf
    columns = np.asarray(hungarian(cost, np.ones(5, bool)))
    assert columns[0] == 7
    assert columns[1] == 6
    assert columns[2] == 3
    assert len(np.unique(columns)) == 5
    everything = np.asarray(hungarian(np.full((5, 8), np.nan, np.float32), np.ones(5, bool)))
    assert len(np.unique(everything)) == 5


def test_hungarian_refuses_more_truths_than_candidates():
    with pytest.raises(ModelError, match="truths <= candidates"):
        hungarian(jnp.zeros((3, 2)), jnp.ones(3, bool))
