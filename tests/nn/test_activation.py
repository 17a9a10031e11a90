"""PReLU against PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.nn.activation import PReLU

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("per_channel", [True, False])
def test_equals_torch(per_channel):
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    layer = PReLU(per_channel=per_channel)
    variables = layer.init(jax.random.key(0), x)
    slope = variables["params"]["slope"]
    assert slope.shape == ((3,) if per_channel else ())
    np.testing.assert_array_equal(slope, 0.25)
    slope = slope + jnp.arange(slope.size).reshape(slope.shape) * 0.1

    y, pullback = jax.vjp(lambda s, a: layer.apply({"params": {"slope": s}}, a), slope, x)
    ts = torch.tensor(np.atleast_1d(np.asarray(slope))).requires_grad_()
    tx = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    expected = torch.nn.functional.prelu(tx, ts)
    expected.sum().backward()
    ds, dx = pullback(jnp.ones_like(y))
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), rtol=1e-6)
    np.testing.assert_allclose(np.atleast_1d(ds), ts.grad, rtol=1e-4)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), rtol=1e-6)
