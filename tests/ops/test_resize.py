"""Resizing against PyTorch."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.resize import METHODS, nearest_index, resize, resize_matrix

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


@pytest.mark.parametrize("method", ["nearest", "nearest-exact"])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_nearest_equals_torch_and_keeps_integers(before, after, method):
    x = np.random.default_rng(0).integers(0, 255, (2, *before, 1)).astype(np.uint8)
    expected = torch.nn.functional.interpolate(torch.tensor(x).permute(0, 3, 1, 2), after, mode=method)
    y = resize(jnp.asarray(x), after, method)
    assert y.dtype == jnp.uint8
    np.testing.assert_array_equal(y, expected.permute(0, 2, 3, 1).numpy())


def torch_axis(before, method, **how):
    """[after, before]: PyTorch's float64 interpolation of each unit vector (float32 for nearest, whose index is)."""
    unit = torch.eye(before, dtype=torch.float32 if "nearest" in method else torch.float64)[None, :, :, None]
    # A width of one makes PyTorch's antialiasing misread the memory order.
    return torch.nn.functional.interpolate(unit.repeat(1, 1, 1, 2), mode=method, **how)[0, :, :, 0].T.numpy()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_matrix_equals_torch_for_every_small_size(method, align_corners, antialias):
    how = {"align_corners": align_corners, "antialias": antialias}
    for before in range(1, 14):
        for after in [*range(1, 18), 31, 8 * before]:
            expected = torch_axis(before, method, size=(after, 2), **how)
            matrix = resize_matrix(before, after, method, **how)
            np.testing.assert_allclose(matrix, expected, atol=1e-7, err_msg=f"{before} -> {after}")
            np.testing.assert_allclose(matrix.sum(1), 1.0, rtol=1e-6)
        for scale in (0.34, 0.5, 1.02, 1.3, 2.0, 2.05, 3.7):
            after = math.floor(before * scale)
            if after:
                expected = torch_axis(before, method, scale_factor=(scale, 1.0), **how)
                matrix = resize_matrix(before, after, method, **how, step=1 / scale)
                np.testing.assert_allclose(matrix, expected, atol=1e-7, err_msg=f"{before} times {scale}")


@pytest.mark.parametrize("method", ["nearest", "nearest-exact"])
def test_nearest_takes_torchs_pixel_for_every_small_size(method):
    exact = method == "nearest-exact"
    for before in range(1, 14):
        for after in [*range(1, 18), 31, 8 * before]:
            expected = torch_axis(before, method, size=(after, 2)).argmax(1)
            np.testing.assert_array_equal(nearest_index(before, after, exact), expected, f"{before} -> {after}")
        for scale in (0.34, 0.5, 1.02, 1.3, 2.0, 2.05, 3.7):
            after = math.floor(before * scale)
            if after:
                expected = torch_axis(before, method, scale_factor=(scale, 1.0)).argmax(1)
                chosen = nearest_index(before, after, exact, 1 / scale)
                np.testing.assert_array_equal(chosen, expected, f"{before} times {scale}")


def test_same_size_is_the_input():
    x = jnp.arange(24.0).reshape(1, 4, 6, 1)
    assert resize(x, (4, 6)) is x


def test_bfloat16_stays():
    assert resize(jnp.ones((1, 4, 4, 1), jnp.bfloat16), (8, 8)).dtype == jnp.bfloat16


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("after", [(8, 9), (3, 2)])
def test_nan_stays_nan(method, after):
    x = jnp.ones((1, 4, 5, 1)).at[0, 2, 3].set(jnp.nan)
    assert jnp.isnan(resize(x, after, method)).any() or method.startswith("nearest")
    assert jnp.isnan(resize(x.at[:].set(jnp.nan), after, method)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (8, 8), "method": "cubic"}, "method 'cubic' is unknown. Did you mean 'bicubic'?"),
        ({"size": (8, 8), "method": "nearest", "align_corners": True}, "'nearest' has neither align_corners"),
        ({"size": (0, 8)}, r"size=\(0, 8\) must be two positive"),
        ({"size": (8,)}, r"size=\(8,\) must be two positive"),
        ({"scale": -2.0}, r"scale=\(-2.0, -2.0\) leaves nothing of 4x4"),
        ({"scale": (2.0, 0.2)}, r"scale=\(2.0, 0.2\) leaves nothing of 4x4"),
        ({}, "either size or scale; got size=None and scale=None"),
        ({"size": (8, 8), "scale": 2.0}, "either size or scale"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ModelError, match=message):
        resize(jnp.ones((1, 4, 4, 1)), **arguments)


@pytest.mark.parametrize(("shape", "dtype", "message"), [((4, 4, 1), float, "4, 4, 1"), ((1, 4, 4, 1), int, "int32")])
def test_bad_images_are_named(shape, dtype, message):
    with pytest.raises(ModelError, match=message):
        resize(jnp.ones(shape, dtype), (8, 8))
