"""Batch normalisation as a layer: running statistics, evaluation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.nn.norm import BatchNorm

torch = pytest.importorskip("torch")


def test_three_training_steps_then_evaluation_equal_torch():
    rng = np.random.default_rng(0)
    layer = BatchNorm(momentum=0.8, epsilon=1e-3)
    reference = torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.2)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 2, 2, 3)), True)
    np.testing.assert_array_equal(variables["batch_stats"]["var"], 1)  # init leaves the statistics alone
    count = 2 * 5 * 7
    running = np.ones(3)
    for _ in range(3):
        x = (rng.normal(size=(2, 5, 7, 3)) * 2 + 1).astype(np.float32)
        y, state = layer.apply(variables, x, True, mutable=["batch_stats"])
        expected = reference(torch.tensor(x).permute(0, 3, 1, 2)).detach().permute(0, 2, 3, 1)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        variables = {**variables, **state}
        running = 0.8 * running + 0.2 * x.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(variables["batch_stats"]["mean"], reference.running_mean, rtol=1e-4)
    np.testing.assert_allclose(variables["batch_stats"]["var"], running, rtol=1e-4)
    # PyTorch keeps the unbiased variance; give it ours, so that evaluation can be compared.
    unbiased = 1 + (reference.running_var - 0.512) * (count - 1) / count + 0.512 - 1
    np.testing.assert_allclose(variables["batch_stats"]["var"], unbiased, rtol=1e-4)
    reference.eval().running_var.copy_(torch.tensor(np.asarray(variables["batch_stats"]["var"])))
    expected = reference(torch.tensor(x).permute(0, 3, 1, 2)).detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(layer.apply(variables, x, False), expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_result_float32_statistics():
    layer = BatchNorm(dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 2), jnp.bfloat16), True)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_masked_positions_are_in_no_statistic():
    rng = np.random.default_rng(0)
    layer, reference = BatchNorm(), torch.nn.BatchNorm1d(3)
    x = rng.normal(size=(4, 9, 3)).astype(np.float32)
    mask = rng.uniform(size=(4, 9)) < 0.6
    variables = layer.init(jax.random.key(0), x, True, mask)
    y, state = layer.apply(variables, np.where(mask[..., None], x, np.nan), True, mask, mutable=["batch_stats"])
    expected = reference(torch.tensor(x[mask])).detach()
    np.testing.assert_allclose(np.asarray(y)[mask], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], reference.running_mean, rtol=1e-4, atol=1e-6)
    nothing, _ = layer.apply(variables, x, True, np.zeros_like(mask), mutable=["batch_stats"])
    assert np.isfinite(nothing).all()
