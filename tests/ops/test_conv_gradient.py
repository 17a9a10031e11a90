"""The kernel's gradient by products or by Winograd is XLA's own, for every window."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations

# (channels, features, kernel, stride, rate, padding)
CASES = {
    "3x3": (4, 5, (3, 3), 1, 1, "same"),
    "3x3 narrowing": (9, 4, (3, 3), 1, 1, "same"),
    "1x1 narrowing": (8, 2, (1, 1), 1, 1, "same"),
    "1x1 stride 2": (8, 2, (1, 1), 2, 1, "same"),
    "3x3 stride 2": (3, 4, (3, 3), 2, 1, "same"),
    "3x3 stride 2 narrowing": (8, 2, (3, 3), 2, 1, "same"),
    "2x2 stride 2": (4, 4, (2, 2), 2, 1, "valid"),
    "3x1": (4, 4, (3, 1), 1, 1, "same"),
    "1x5 rate 2 narrowing": (6, 3, (1, 5), 1, (1, 2), "same"),
    "3x3 rate 4": (4, 4, (3, 3), 1, 4, "same"),
    "3x3 rate 4 narrowing": (6, 2, (3, 3), 1, 4, "same"),
    "valid narrowing": (6, 2, (3, 3), 1, 1, "valid"),
    "4x2 lopsided narrowing": (6, 2, (4, 2), 1, (2, 1), ((0, 3), (1, 0))),
    "padded widely narrowing": (6, 2, (3, 3), 1, 1, 4),
}


@pytest.mark.parametrize("chosen", ["products", "winograd"])
@pytest.mark.parametrize("case", CASES)
def test_both_gradients_are_xlas(case, chosen):
    channels, features, size, stride, rate, padding = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 11, 9, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*size, channels, features)), jnp.float32)

    def gradients(choice):
        def run(x, kernel):
            return conv2d(x, kernel, stride=stride, rate=rate, padding=padding)

        with formulations(kernel_gradient=choice):
            value, pullback = jax.vjp(run, x, kernel)
            cotangent = jnp.asarray(np.random.default_rng(1).normal(size=value.shape), jnp.float32)
            return value, *pullback(cotangent)

    for ours, theirs in zip(gradients(chosen), gradients("native"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_no_convolution_is_as_large_as_the_image():
    def traced(choice):
        with formulations(kernel_gradient=choice):
            gradient = jax.grad(lambda x, kernel: conv2d(x, kernel).sum(), argnums=(0, 1))
            program = jax.make_jaxpr(gradient)(jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4)))
            return str(program).count("conv_general_dilated[")

    assert (traced("native"), traced("products")) == (3, 2)


def test_bfloat16_adds_up_in_float32():
    x, kernel = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    with formulations(kernel_gradient="products"):
        gradient = jax.grad(lambda kernel: conv2d(x, kernel).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert float(gradient[0, 0, 0, 0]) == 64 * 64
