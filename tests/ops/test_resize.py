"""Resizing against PyTorch."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.resize import bilinear_matrix, resize

torch = pytest.importorskip("torch")

SIZES = [
    ((5, 7), (10, 14)),
    ((5, 7), (40, 56)),
    ((9, 8), (4, 3)),
    ((1, 1), (6, 5)),
    ((7, 6), (1, 1)),
    ((6, 5), (9, 13)),
]


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bilinear_equals_torch(before, after, align_corners, value_and_pullback):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *before, 3)).astype(np.float32)
    tx = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    expected = torch.nn.functional.interpolate(tx, after, mode="bilinear", align_corners=align_corners)
    cotangent = rng.normal(size=(2, *after, 3)).astype(np.float32)
    expected.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    y, (dx,) = value_and_pullback(lambda a: resize(a, after, align_corners=align_corners), cotangent, x)
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_nearest_equals_torch_and_keeps_integers(before, after):
    x = np.random.default_rng(0).integers(0, 255, (2, *before, 1)).astype(np.uint8)
    expected = torch.nn.functional.interpolate(torch.tensor(x).permute(0, 3, 1, 2), after, mode="nearest")
    y = resize(jnp.asarray(x), after, "nearest")
    assert y.dtype == jnp.uint8
    np.testing.assert_array_equal(y, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("before", "after"), [(5, 40), (40, 5), (1, 3), (7, 7), (33, 65)])
def test_rows_of_the_matrix_are_weights(before, after, align_corners):
    matrix = bilinear_matrix(before, after, align_corners)
    np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-6)
    assert (matrix >= 0).all()


def test_same_size_is_the_input():
    x = jnp.arange(24.0).reshape(1, 4, 6, 1)
    assert resize(x, (4, 6)) is x


def test_bfloat16_stays():
    assert resize(jnp.ones((1, 4, 4, 1), jnp.bfloat16), (8, 8)).dtype == jnp.bfloat16


def test_unknown_method():
    with pytest.raises(ModelError, match="'cubic' is unknown"):
        resize(jnp.ones((1, 4, 4, 1)), (8, 8), "cubic")
