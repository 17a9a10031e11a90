"""The rectified sum: its values and gradients either way, and that XLA's CPU compiler keeps it."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.ops.formulation import formulations
from segjax.ops.residual import relu_of_sum


@pytest.mark.parametrize("choice", ["native", "select"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients(choice, dtype):
    rng = np.random.default_rng(0)
    # Integers: exact in bfloat16, and some sums are 0.
    parts = [jnp.asarray(rng.integers(-3, 4, (2, 5, 7, 3)), dtype) for _ in range(3)]
    total = np.sum([np.asarray(x, np.float64) for x in parts], axis=0)
    assert (total == 0).any()
    with formulations(relu_of_sum=choice):
        value, pullback = jax.vjp(relu_of_sum, *parts)
        gradients = pullback(jnp.full_like(value, 2))
    assert value.dtype == dtype
    np.testing.assert_array_equal(np.asarray(value, np.float64), np.maximum(total, 0))
    for gradient in gradients:
        np.testing.assert_array_equal(np.asarray(gradient, np.float64), 2 * (total > 0))


@pytest.mark.parametrize("choice", ["native", "select"])
def test_what_is_no_number_stays_visible(choice):
    with formulations(relu_of_sum=choice):
        assert np.isnan(relu_of_sum(jnp.array([np.nan, np.inf]), jnp.array([1.0, -np.inf]))).all()


def most_rectified(choice: str) -> int:
    """Of the train step of six residual blocks: how often the busiest fused computation rectifies."""

    def loss(kernels, x):
        for kernel in kernels:
            y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = relu_of_sum(x, y)
        return jnp.sum(jnp.square(x))

    shapes = [jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.float32)] * 6, jax.ShapeDtypeStruct((1, 16, 16, 16), jnp.float32)
    with formulations(relu_of_sum=choice):
        text = jax.jit(jax.grad(loss)).lower(*shapes).compile().as_text()
    fused = re.findall(r"^%?fused_computation[^\n]*\{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return max(len(re.findall(r" (?:maximum|select)\(", body)) for body in fused)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU compiler")
def test_no_block_computes_those_before_it_again():
    assert most_rectified("native") >= 5, "the compiler no longer does: relu_of_sum may go"
    assert most_rectified("select") <= 2
