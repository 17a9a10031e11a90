"""Random sizes, rates, strides, paddings and dtypes: values and gradients of every operation against float64.

Values against PyTorch and against a numpy definition (oracle.py); gradients against PyTorch, and against the numpy
definition's slope along a random direction. Distances are relative to the largest value: 1e-5 in float32, 2e-2 in
bfloat16, whose inputs are rounded before either side sees them. Each example is one compiled program.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations
from segjax.ops.norm import batch_moments, batch_norm
from segjax.ops.pooling import avg_pool, max_pool, max_pool_argmax, pool_index
from segjax.ops.resize import resize
from segjax.ops.unpool import max_unpool
from segjax.ops.upconv import conv_transpose2d
from tests.ops import oracle

torch = pytest.importorskip("torch")
functional = torch.nn.functional

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
dtypes = st.sampled_from(sorted(TOLERANCE))
seeds = st.integers(0, 2**31)
NCHW, OIHW, IOHW = (0, 3, 1, 2), (3, 2, 0, 1), (2, 3, 0, 1)


def few(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True)


def pair(strategy):
    return st.tuples(strategy, strategy)


def rounded(array, dtype):
    return np.asarray(jnp.asarray(array, dtype).astype(jnp.float32), np.float64)


def normal(rng, shape, dtype):
    return rounded(rng.normal(size=shape), dtype)


def distinct(rng, shape, dtype):
    """No two values nearer than 1 (in bfloat16: ties, of which the first pixel counts)."""
    return rounded(rng.permutation(int(np.prod(shape))).reshape(shape), dtype)


def near(actual, expected, tolerance, what):
    expected = np.asarray(expected, np.float64)
    actual = np.asarray(jnp.asarray(actual).astype(jnp.float32), np.float64)
    assert actual.shape == expected.shape, what
    distance = np.abs(actual - expected).max(initial=0)
    assert distance <= tolerance * max(np.abs(expected).max(initial=0), 1e-3), f"{what}: {distance}"


def check(ours, definition, theirs, arrays, orders, dtype, rng):
    """`arrays`: the arguments; `orders`: how PyTorch wants the axes of each."""
    tensors = [torch.tensor(a).permute(order).requires_grad_() for a, order in zip(arrays, orders)]
    result = theirs(*tensors)
    expected = result.detach().permute(0, 2, 3, 1).numpy()
    cotangent = normal(rng, expected.shape, dtype)
    result.backward(torch.tensor(cotangent).permute(NCHW))

    def both(cotangent, *arguments):
        value, pullback = jax.vjp(ours, *arguments)
        return value, pullback(cotangent)

    value, gradients = jax.jit(both)(jnp.asarray(cotangent, dtype), *(jnp.asarray(a, dtype) for a in arrays))
    assert value.dtype == dtype
    tolerance = TOLERANCE[dtype]
    near(value, definition(*arrays), tolerance, "value, numpy")
    near(value, expected, tolerance, "value, torch")
    for n, (gradient, tensor, order) in enumerate(zip(gradients, tensors, orders)):
        near(gradient, tensor.grad.permute(*np.argsort(order)).numpy(), tolerance, f"gradient {n}, torch")
        if dtype == "float32":
            direction, step = rng.normal(size=arrays[n].shape), 1e-4
            ahead, behind = (
                definition(*arrays[:n], arrays[n] + sign * step * direction, *arrays[n + 1 :]) for sign in (1, -1)
            )
            slope = np.sum((ahead - behind) * cotangent) / (2 * step)
            own = np.asarray(gradient, np.float64)
            scale = np.linalg.norm(own) * np.linalg.norm(direction)
            assert abs(np.sum(own * direction) - slope) <= 1e-5 * scale + 1e-6, f"gradient {n}, numpy"


@few(24)
@given(data=st.data(), dtype=dtypes, seed=seeds)
def test_convolution(data, dtype, seed):
    draw, rng = data.draw, np.random.default_rng(seed)
    size, stride, rate = draw(pair(st.integers(1, 4))), draw(pair(st.integers(1, 3))), draw(pair(st.integers(1, 8)))
    per, out_per, groups = draw(
        st.sampled_from([(2, 3, 1), (64, 64, 1), (3, 5, 1), (1, 1, 5), (1, 2, 3), (2, 1, 3), (3, 2, 2)])
    )
    height, width = draw(pair(st.integers(1, 13)))
    pads = draw(st.sampled_from(["same", "valid", 1, ((0, 2), (3, 1))]))
    around = {
        "same": tuple((k // 2 * r, k // 2 * r) for k, r in zip(size, rate)),
        "valid": ((0, 0), (0, 0)),
        1: ((1, 1), (1, 1)),
    }.get(pads, pads)
    assume(all(n + sum(p) >= (k - 1) * r + 1 for n, p, k, r in zip((height, width), around, size, rate)))
    x = normal(rng, (2, height, width, per * groups), dtype)
    kernel = normal(rng, (*size, per, out_per * groups), dtype)

    def theirs(a, k):
        (top, bottom), (left, right) = around
        a = functional.pad(a, (left, right, top, bottom))
        return functional.conv2d(a, k, stride=stride, dilation=rate, groups=groups)

    with formulations(backend=draw(st.sampled_from(["cpu", "gpu", "tpu"]))):
        check(
            lambda a, k: conv2d(a, k, stride=stride, rate=rate, groups=groups, padding=pads),
            lambda a, k: oracle.conv2d(a, k, stride, rate, groups, around),
            theirs,
            (x, kernel),
            (NCHW, OIHW),
            dtype,
            rng,
        )


@few(12)
@given(data=st.data(), dtype=dtypes, seed=seeds)
def test_stem(data, dtype, seed):
    draw, rng = data.draw, np.random.default_rng(seed)
    taps, stride = draw(pair(st.integers(1, 7))), draw(pair(st.integers(2, 4)))
    around = draw(st.sampled_from([tuple((k // 2, k // 2) for k in taps), ((0, 0), (0, 0)), ((0, 1), (2, 0))]))
    size = draw(pair(st.integers(1, 15)))
    assume(all(n + sum(p) >= k for n, p, k in zip(size, around, taps)))
    x, kernel = normal(rng, (2, *size, 3), dtype), normal(rng, (*taps, 3, 4), dtype)
    with formulations(stem="space_to_depth"):
        check(
            lambda a, k: conv2d(a, k, stride=stride, padding=around),
            lambda a, k: oracle.conv2d(a, k, stride, (1, 1), 1, around),
            lambda a, k: functional.conv2d(functional.pad(a, (*around[1], *around[0])), k, stride=stride),
            (x, kernel),
            (NCHW, OIHW),
            dtype,
            rng,
        )


@few(12)
@given(data=st.data(), dtype=dtypes, seed=seeds)
def test_transposed_convolution(data, dtype, seed):
    draw, rng = data.draw, np.random.default_rng(seed)
    taps, stride = draw(pair(st.integers(1, 6))), draw(pair(st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, k - 1)) for k in taps)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    size = draw(pair(st.integers(1, 6)))
    assume(all((n - 1) * s - 2 * p + k + e > 0 for n, s, p, k, e in zip(size, stride, padding, taps, extra)))
    x, kernel = normal(rng, (2, *size, 3), dtype), normal(rng, (*taps, 3, 2), dtype)
    check(
        lambda a, k: conv_transpose2d(a, k, stride=stride, padding=padding, output_padding=extra),
        lambda a, k: oracle.conv_transpose2d(a, k, stride, padding, extra),
        lambda a, k: functional.conv_transpose2d(a, k, stride=stride, padding=padding, output_padding=extra),
        (x, kernel),
        (NCHW, IOHW),
        dtype,
        rng,
    )


@st.composite
def pools(draw, overlapping=True):
    """(H, W), window, stride, padding, ceil_mode."""
    window = draw(pair(st.integers(1, 4)))
    stride = tuple(draw(st.integers(1 if overlapping else k, 4)) for k in window)
    padding = tuple(draw(st.integers(0, k // 2)) for k in window)
    size = draw(pair(st.integers(1, 9)))
    ceil_mode = draw(st.booleans())
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, window)))
    return size, window, stride, padding, ceil_mode


def cells(size, window, stride, padding, ceil_mode):
    return [oracle.windows(n, k, s, p, ceil_mode) for n, k, s, p in zip(size, window, stride, padding)]


@few(12)
@given(case=pools(), dtype=dtypes, seed=seeds)
def test_max_pool_and_its_index(case, dtype, seed):
    rng = np.random.default_rng(seed)
    size, window, stride, padding, ceil_mode = case
    rows, columns = cells(*case)
    x = distinct(rng, (2, *size, 3), dtype)

    def theirs(a):
        return functional.max_pool2d(a, window, stride, padding, ceil_mode=ceil_mode)

    for ours in (max_pool, lambda *a: max_pool_argmax(*a)[0]):
        check(
            lambda a, ours=ours: ours(a, window, stride, padding, ceil_mode),
            lambda a: oracle.pool(a, rows, columns, oracle.maximum),
            theirs,
            (x,),
            (NCHW,),
            dtype,
            rng,
        )
    _, code = max_pool_argmax(jnp.asarray(x, dtype), window, stride, padding, ceil_mode)
    index = pool_index(code, size, window, stride, padding)
    np.testing.assert_array_equal(index, oracle.max_index(x, rows, columns))
    flat = functional.max_pool2d(
        torch.tensor(x).permute(NCHW), window, stride, padding, ceil_mode=ceil_mode, return_indices=True
    )[1]
    np.testing.assert_array_equal(index, flat.permute(0, 2, 3, 1))


@few(12)
@given(case=pools(overlapping=False), dtype=dtypes, seed=seeds)
def test_unpooling(case, dtype, seed):
    rng = np.random.default_rng(seed)
    size, window, stride, padding, ceil_mode = case
    rows, columns = cells(*case)
    x = distinct(rng, (2, *size, 3), dtype)
    how = (window, stride, padding)
    # PyTorch takes only sizes within a stride of the least; from a clipped window that is not always the image's.
    least = [(len(c) - 1) * s - 2 * p + k for c, s, p, k in zip((rows, columns), stride, padding, window)]
    assume(all(abs(n - m) < s for n, m, s in zip(size, least, stride)))

    def ours(a):
        values, code = max_pool_argmax(a, *how, ceil_mode)
        return max_unpool(values * values, code, size, *how)

    def definition(a):
        values = oracle.pool(a, rows, columns, oracle.maximum)
        return oracle.unpool(values**2, oracle.max_index(a, rows, columns), size)

    def theirs(a):
        values, index = functional.max_pool2d(a, *how, ceil_mode=ceil_mode, return_indices=True)
        return functional.max_unpool2d(values**2, index, *how, output_size=size)

    check(ours, definition, theirs, (x,), (NCHW,), dtype, rng)


@few(8)
@given(case=pools(), dtype=dtypes, seed=seeds)
def test_mean_pool(case, dtype, seed):
    rng = np.random.default_rng(seed)
    size, window, stride, padding, ceil_mode = case
    rows, columns = cells(*case)
    check(
        lambda a: avg_pool(a, window, stride, padding, ceil_mode, count_include_pad=False),
        lambda a: oracle.pool(a, rows, columns, oracle.mean),
        lambda a: functional.avg_pool2d(a, window, stride, padding, ceil_mode, count_include_pad=False),
        (normal(rng, (2, *size, 3), dtype),),
        (NCHW,),
        dtype,
        rng,
    )


@few(8)
@given(size=pair(st.integers(1, 9)), count=pair(st.integers(1, 11)), dtype=dtypes, seed=seeds)
def test_adaptive_pools(size, count, dtype, seed):
    rng = np.random.default_rng(seed)
    rows, columns = (oracle.bins(n, c) for n, c in zip(size, count))
    for ours, reduce, theirs, values in (
        (adaptive_avg_pool, oracle.mean, functional.adaptive_avg_pool2d, normal),
        (adaptive_max_pool, oracle.maximum, functional.adaptive_max_pool2d, distinct),
    ):
        check(
            lambda a, ours=ours: ours(a, count),
            lambda a, reduce=reduce: oracle.pool(a, rows, columns, reduce),
            lambda a, theirs=theirs: theirs(a, count),
            (values(rng, (2, *size, 2), dtype),),
            (NCHW,),
            dtype,
            rng,
        )


@few(16)
@given(data=st.data(), dtype=dtypes, seed=seeds)
def test_resizing(data, dtype, seed):
    rng = np.random.default_rng(seed)
    method = data.draw(st.sampled_from(["bilinear", "bicubic"]))
    align_corners, antialias = data.draw(st.booleans()), data.draw(st.booleans())
    # From 2 on: PyTorch's antialiasing misreads the memory order of a map one pixel wide.
    before, after = data.draw(pair(st.integers(2, 9))), data.draw(pair(st.integers(1, 19)))
    how = {"align_corners": align_corners, "antialias": antialias}
    check(
        lambda a: resize(a, after, method, **how),
        lambda a: oracle.resize(a, after, method, **how),
        lambda a: functional.interpolate(a.contiguous(), after, mode=method, **how),
        (normal(rng, (2, *before, 3), dtype),),
        (NCHW,),
        dtype,
        rng,
    )


@few(6)
@given(size=pair(st.integers(2, 9)), dtype=dtypes, seed=seeds)
def test_batch_norm(size, dtype, seed):
    rng = np.random.default_rng(seed)
    x, scale, bias = (normal(rng, shape, dtype) for shape in ((2, *size, 3), (3,), (3,)))
    check(
        lambda a, s, b: batch_norm(a, s, b, *batch_moments(a), eps=1e-3),
        lambda a, s, b: oracle.batch_norm(a, s, b, 1e-3),
        lambda a, s, b: functional.batch_norm(a, None, None, s, b, training=True, eps=1e-3),
        (x, scale, bias),
        (NCHW, (0,), (0,)),
        dtype,
        rng,
    )
