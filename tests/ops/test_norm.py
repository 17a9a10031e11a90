"""Batch normalisation against PyTorch and float64."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.norm import batch_moments, batch_norm

torch = pytest.importorskip("torch")


def test_training_form_equals_torch(value_and_pullback):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 5, 7, 3)) * 3 + 1).astype(np.float32)
    scale, bias = rng.normal(size=(2, 3)).astype(np.float32)
    cotangent = rng.normal(size=x.shape).astype(np.float32)
    tx, ts, tb = (torch.tensor(a).requires_grad_() for a in (x.transpose(0, 3, 1, 2), scale, bias))
    expected = torch.nn.functional.batch_norm(tx, None, None, ts, tb, training=True, eps=1e-3)
    expected.backward(torch.tensor(cotangent.transpose(0, 3, 1, 2)))

    y, (dx, ds, db) = value_and_pullback(
        lambda a, s, b: batch_norm(a, s, b, *batch_moments(a), eps=1e-3), cotangent, x, scale, bias
    )
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(ds, ts.grad, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(db, tb.grad, rtol=1e-4, atol=1e-4)


def test_moments_of_bfloat16_are_float32_and_exact():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 16, 16, 2)) + 2, jnp.bfloat16)
    mean, var = batch_moments(x)
    exact = np.asarray(x, np.float64)
    assert mean.dtype == var.dtype == jnp.float32
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, exact.var((0, 1, 2)), rtol=1e-4)


def test_variance_of_a_large_constant_is_not_negative():
    _, var = batch_moments(jnp.full((1, 31, 17, 1), 4097.3))
    assert (var >= 0).all()
    assert np.isfinite(batch_norm(jnp.ones((1, 1)), jnp.ones(1), jnp.zeros(1), jnp.zeros(1), var)).all()
