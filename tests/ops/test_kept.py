"""What is written out once: its values and gradients either way, and what XLA's CPU compiler makes of it."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations
from segjax.ops.kept import gradient_kept, kept
from segjax.ops.pooling import max_pool


@pytest.mark.parametrize("choice", ["native", "call"])
@pytest.mark.parametrize("function", [kept, gradient_kept])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8])
def test_is_the_identity(choice, function, dtype):
    x = jnp.asarray(np.random.default_rng(0).integers(-9, 9, (2, 3, 4, 5)), dtype)
    with formulations(kept=choice):
        y = jax.jit(function)(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("choice", ["native", "call"])
@pytest.mark.parametrize("function", [kept, gradient_kept])
def test_has_the_gradient_of_the_identity(choice, function):
    x = jnp.array([1.0, -2.0, np.inf, np.nan])
    with formulations(kept=choice):
        (gradient,) = jax.jit(lambda x, g: jax.vjp(function, x)[1](g))(x, x)
        several = jax.vmap(jax.grad(lambda x: jnp.sum(function(x) ** 2)))(jnp.eye(3))
    np.testing.assert_array_equal(gradient, x)
    np.testing.assert_array_equal(several, 2 * np.eye(3))


def additions(choice: str) -> int:
    """Of the compiled gradients of a dense block and a pooling: how many sums of images are computed."""

    def loss(x, kernels):
        for kernel in kernels:
            x = jnp.concatenate([x, 0.5 * conv2d(x, kernel)], -1)
        return jnp.sum(jnp.square(max_pool(x)))

    image = jax.ShapeDtypeStruct((1, 32, 32, 32), jnp.float32)
    kernels = [jax.ShapeDtypeStruct((3, 3, 32 + 8 * i, 8), jnp.float32) for i in range(6)]
    with formulations(kept=choice, kernel_gradient="products"):
        text = jax.jit(jax.grad(loss, 1)).lower(image, kernels).compile().as_text()
    return len(re.findall(r" = f32\[1,32,32,\d+\]\S* add\(", text))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU compiler")
def test_a_sum_of_gradients_is_computed_once():
    assert additions("native") > 100, "the compiler no longer repeats them: kept may go"
    # The result of layer i is read by the 5 - i layers after it and by the pooling, a sum of 6 - i gradients.
    assert additions("call") <= sum(range(6))
