"""Transposed convolution against PyTorch: values and both gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.upconv import conv_transpose2d

torch = pytest.importorskip("torch")

# (kernel, stride, padding, output_padding)
CASES = [
    ((2, 2), 2, 0, 0),
    ((2, 2), 2, 0, 1),
    ((3, 3), 2, 1, 1),
    ((3, 3), 2, 1, 0),
    ((3, 3), 2, 0, 0),
    ((4, 4), 2, 1, 0),
    ((4, 4), 4, 0, 0),
    ((8, 8), 4, 2, 0),
    ((16, 16), 8, 4, 0),
    ((5, 5), 3, 2, 2),
    ((3, 3), 1, 1, 0),
    ((1, 1), 2, 0, 1),
    ((2, 2), 3, 0, 0),
    ((4, 2), (2, 3), (1, 0), (0, 2)),
]


@pytest.mark.parametrize(("size", "stride", "padding", "extra"), CASES)
def test_equals_torch(size, stride, padding, extra, value_and_pullback):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    kernel = rng.normal(size=(*size, 3, 4)).astype(np.float32)
    tx = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    tk = torch.tensor(kernel).permute(2, 3, 0, 1).requires_grad_()
    expected = torch.nn.functional.conv_transpose2d(tx, tk, stride=stride, padding=padding, output_padding=extra)
    cotangent = rng.normal(size=expected.permute(0, 2, 3, 1).shape).astype(np.float32)
    expected.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))

    def ours(a, k):
        return conv_transpose2d(a, k, stride=stride, padding=padding, output_padding=extra)

    y, (dx, dk) = value_and_pullback(ours, cotangent, x, kernel)
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dk, tk.grad.permute(2, 3, 0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "padding", "extra"), [(2, 0, 0), (3, 1, 1), (4, 1, 0)])
def test_no_dilated_input_in_value_or_gradient(size, padding, extra):
    def total(x, kernel):
        return conv_transpose2d(x, kernel, padding=padding, output_padding=extra).sum()

    traced = str(jax.make_jaxpr(jax.grad(total, (0, 1)))(jnp.zeros((1, 4, 4, 2)), jnp.zeros((size, size, 2, 2))))
    assert "lhs_dilation=(2, 2)" not in traced


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 0}, "stride=0 must be positive"),
        ({"output_padding": 2}, "output_padding=2 do not fit 4 pixels, 3 taps, stride 2"),
        ({"padding": -1}, "padding=-1"),
        ({"padding": 5}, "padding=5"),
    ],
)
def test_bad_numbers_are_named(arguments, message):
    with pytest.raises(ModelError, match=message):
        conv_transpose2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 1, 1)), **arguments)


def test_kernel_that_does_not_fit():
    with pytest.raises(ModelError, match=r"kernel \(3, 3, 2, 1\) does not fit an image \(1, 4, 4, 1\)"):
        conv_transpose2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 2, 1)))


def test_nan_stays_nan():
    x = jnp.ones((1, 4, 4, 2)).at[0, 1, 2].set(jnp.nan)
    assert jnp.isnan(conv_transpose2d(x, jnp.ones((2, 2, 2, 1)))[0, 2:4, 4:6]).all()
