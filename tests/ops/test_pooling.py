"""Pooling and unpooling against PyTorch: values, gradients, ties."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.pooling import avg_pool, global_avg_pool, max_pool, max_pool_argmax
from segjax.ops.unpool import max_unpool

torch = pytest.importorskip("torch")
functional = torch.nn.functional

# (window, stride, padding, ceil_mode)
CASES = [
    (2, None, 0, False),
    (2, None, 0, True),
    (3, 2, 1, False),
    (3, 2, 1, True),
    (3, 2, 0, True),
    (3, 1, 1, False),
    (3, 3, 1, True),
    ((2, 3), None, 0, True),
    (2, 3, 1, True),
]


def to_torch(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).requires_grad_()


def to_numpy(x):
    return x.detach().permute(0, 2, 3, 1).numpy()


@pytest.fixture
def compare(value_and_pullback):
    def run(ours, theirs, x):
        tx = to_torch(x)
        expected = theirs(tx)
        cotangent = np.random.default_rng(1).normal(size=to_numpy(expected).shape).astype(np.float32)
        expected.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
        y, (dx,) = value_and_pullback(ours, cotangent, x)
        np.testing.assert_allclose(y, to_numpy(expected), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dx, to_numpy(tx.grad), rtol=1e-5, atol=1e-5)

    return run


@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_max_pool_equals_torch(case, size, compare):
    window, stride, padding, ceil_mode = case
    # Few distinct values: ties in most windows.
    x = np.random.default_rng(0).integers(0, 3, (2, *size, 3)).astype(np.float32)
    compare(
        lambda a: max_pool(a, window, stride, padding, ceil_mode),
        lambda a: functional.max_pool2d(a, window, stride, padding, ceil_mode=ceil_mode),
        x,
    )


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_avg_pool_equals_torch(case, size, count_include_pad, compare):
    window, stride, padding, ceil_mode = case
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    compare(
        lambda a: avg_pool(a, window, stride, padding, ceil_mode, count_include_pad),
        lambda a: functional.avg_pool2d(a, window, stride, padding, ceil_mode, count_include_pad),
        x,
    )


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 1)])
def test_argmax_and_unpool_equal_torch(size, value_and_pullback):
    x = np.random.default_rng(0).integers(0, 4, (2, *size, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)), constant_values=-9)
    tx = to_torch(padded)
    expected, index = functional.max_pool2d(tx, 2, return_indices=True)
    restored = functional.max_unpool2d(expected * 3, index, 2, output_size=tx.shape[2:])[:, :, : size[0], : size[1]]

    def ours(a):
        values, code = max_pool_argmax(a)
        return max_unpool(values * 3, code, size)

    values, code = max_pool_argmax(jnp.asarray(x))
    assert code.dtype == jnp.int8
    np.testing.assert_array_equal(values, to_numpy(expected))
    cotangent = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    y, (dx,) = value_and_pullback(ours, cotangent, x)
    np.testing.assert_array_equal(y, to_numpy(restored))
    restored.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    gradient = to_numpy(tx.grad)[:, : size[0], : size[1]]
    np.testing.assert_allclose(dx, gradient, rtol=1e-6)


def test_unpool_without_a_size_doubles():
    values, code = max_pool_argmax(jnp.arange(9.0).reshape(1, 3, 3, 1))
    assert max_unpool(values, code).shape == (1, 4, 4, 1)


@pytest.mark.parametrize("where", range(4))
def test_nan_is_not_pooled_away(where):
    x = jnp.arange(4.0).at[where].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(max_pool(x)).all()
    assert jnp.isnan(max_pool(x, 2, 1)).all()
    assert jnp.isnan(avg_pool(x)).all()
    values, code = max_pool_argmax(x)
    assert jnp.isnan(max_unpool(values, code).reshape(4)[where])


def test_global_mean_keeps_dtype_and_sums_in_float32():
    x = jnp.ones((1, 64, 64, 2), jnp.bfloat16)
    y = global_avg_pool(x)
    assert y.shape == (1, 1, 1, 2)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(np.float32), 1.0)


def test_integers_and_large_windows():
    x = jnp.arange(2 * 12 * 13, dtype=jnp.int32).reshape(1, 24, 13, 1)
    values, code = max_pool_argmax(x, (12, 13))
    np.testing.assert_array_equal(values.ravel(), [155, 311])
    assert code.dtype == jnp.int32
    np.testing.assert_array_equal(code.ravel(), [155, 155])
    np.testing.assert_array_equal(max_pool(x.astype(jnp.uint8), 13, 1, 6).shape, (1, 24, 13, 1))


@pytest.mark.parametrize("pool", [max_pool, avg_pool, max_pool_argmax])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), r"window=\(0, 0\) must be positive"),
        ((2, (1, 0)), r"stride=\(1, 0\) must be positive"),
        ((3, 2, 2), "padding=2 must be 0 to half the window of 3"),
        ((5, 1, 0, False), "window of 5 does not fit 4 pixels"),
    ],
)
def test_bad_windows_are_named(pool, arguments, message):
    with pytest.raises(ModelError, match=message):
        pool(jnp.zeros((1, 4, 4, 1)), *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (6, 4)}, r"size=\(6, 4\) is a stride or more from \(4, 4\)"),
        ({"window": 3, "stride": 2}, "overlap"),
        ({"window": 0}, r"window=\(0, 0\) must be positive"),
    ],
)
def test_bad_unpooling_is_named(arguments, message):
    values, code = jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1), jnp.int8)
    with pytest.raises(ModelError, match=message):
        max_unpool(values, code, **arguments)


def test_code_of_another_pooling():
    with pytest.raises(ModelError, match=r"code \(1, 3, 2, 1\) and values \(1, 2, 2, 1\) differ"):
        max_unpool(jnp.zeros((1, 2, 2, 1)), jnp.zeros((1, 3, 2, 1), jnp.int8))
