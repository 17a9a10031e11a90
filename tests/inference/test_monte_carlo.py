from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.inference.monte_carlo import monte_carlo


@pytest.fixture(scope="module")
def bayesian():
    model = create_model("segnet/test", 3, dropout=0.5, dropped_levels=(1, 2))
    images = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
    return model, jax.jit(model.init)(jax.random.key(0), images), images


@pytest.fixture(scope="module")
def run(bayesian):
    model, variables, images = bayesian
    jitted = jax.jit(functools.partial(monte_carlo, model.apply), static_argnames="samples")
    return lambda key, samples=4: jitted(variables, images, key, samples=samples)


def test_mean_and_variance_are_those_of_the_samples(bayesian, run):
    model, variables, images = bayesian
    key = jax.random.key(7)
    once = jax.jit(lambda key: model.apply(variables, images, sample=True, rngs={"dropout": key})["logits"].upsample())
    logits = np.stack([once(jax.random.fold_in(key, i)) for i in range(4)]).astype(np.float64)
    samples = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean, variance = run(key)
    np.testing.assert_allclose(mean, samples.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, samples.var(0), rtol=1e-3, atol=1e-6)
    assert variance.max() > 1e-4
    np.testing.assert_allclose(mean.sum(-1), 1, rtol=1e-5)


def test_the_key_decides(run):
    first, again, other = (run(jax.random.key(seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_one_pass_without_sampling_is_deterministic(bayesian):
    model, variables, images = bayesian
    once = jax.jit(lambda key: model.apply(variables, images, rngs={"dropout": key})["logits"].upsample())
    a, b = once(jax.random.key(1)), once(jax.random.key(2))
    np.testing.assert_array_equal(a, b)


def test_no_samples_are_refused(bayesian):
    model, variables, images = bayesian
    with pytest.raises(ModelError, match="samples=0"):
        monte_carlo(model.apply, variables, images, jax.random.key(0), 0)
