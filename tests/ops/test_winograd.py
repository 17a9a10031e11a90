"""Winograd's convolution and gradients are XLA's own: to rounding in float64, within its stated error in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.ops import winograd
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations

# (rows and columns of the image, taps, rate, pads)
CASES = {
    "3x3": ((16, 8), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x3, a rest of the tiles": ((13, 9), (3, 3), (1, 1), ((1, 1), (1, 1))),
    "3x1 rate 2": ((13, 9), (3, 1), (2, 1), ((2, 2), (0, 0))),
    "1x3 rate 5": ((13, 30), (1, 3), (1, 5), ((0, 0), (5, 5))),
    "lopsided": ((16, 16), (3, 3), (3, 2), ((0, 4), (2, 1))),
    "valid columns": ((40, 9), (3, 3), (1, 1), ((1, 1), (0, 0))),
    "padded by more than its reach": ((10, 7), (3, 3), (1, 1), ((4, 4), (3, 0))),
    "cropped": ((20, 12), (3, 3), (1, 1), ((-2, 1), (0, -3))),
}


def native(x, kernel, rate, pads):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, rhs_dilation=rate, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def example(case, channels, features, dtype):
    size, taps, rate, pads = CASES[case]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, channels)), dtype)
    kernel = jnp.asarray(rng.normal(size=(*taps, channels, features)), dtype)
    value = native(x, kernel, rate, pads)
    return x, kernel, value, jnp.asarray(rng.normal(size=value.shape), dtype)


@pytest.mark.parametrize("case", CASES)
def test_float64(case):
    _, taps, rate, pads = CASES[case]
    with jax.enable_x64(True):
        x, kernel, value, cotangent = example(case, 5, 7, jnp.float64)
        np.testing.assert_allclose(winograd.convolve(x, kernel, rate, pads), value, atol=1e-12)
        (expected,) = jax.linear_transpose(lambda kernel: native(x, kernel, rate, pads), kernel)(cotangent)
        np.testing.assert_allclose(winograd.kernel_gradient(x, cotangent, taps, rate, pads), expected, atol=1e-11)


def test_float32_within_the_stated_error():
    case = "3x3"
    x, kernel, value, _ = example(case, 64, 64, jnp.float32)
    error = jnp.abs(winograd.convolve(x, kernel, *CASES[case][2:]) - value).max()
    assert error < 1e-5 * jnp.abs(value).max()


def test_a_layer_takes_it_for_result_and_both_gradients():
    x, kernel, _, cotangent = example("3x3", 4, 6, jnp.float32)

    def run(x, kernel):
        value, pullback = jax.vjp(conv2d, x, kernel)
        return value, pullback(cotangent)

    with formulations(unstrided="winograd", kernel_gradient="winograd"):
        assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda x, k: run(x, k))(x, kernel))
        ours = run(x, kernel)
    with formulations(unstrided="native", kernel_gradient="native"):
        theirs = run(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), ours, theirs)


def test_members_of_a_sweep_have_each_their_own_gradient():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(3, 2, 8, 8, 4)), jnp.float32)
    kernels = jnp.asarray(rng.normal(size=(3, 3, 3, 4, 5)), jnp.float32)

    def gradients(x, kernel):
        return jax.grad(lambda x, kernel: (conv2d(x, kernel) ** 2).sum(), (0, 1))(x, kernel)

    with formulations(unstrided="winograd", kernel_gradient="winograd"):
        together = jax.vmap(gradients)(images, kernels)
        alone = [gradients(x, kernel) for x, kernel in zip(images, kernels)]
    for ours, theirs in zip(together, zip(*alone)):
        np.testing.assert_allclose(ours, jnp.stack(theirs), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "suited"),
    [
        ({}, True),
        ({"kernel": (3, 1, 8, 8)}, True),
        ({"kernel": (1, 1, 8, 8)}, False),
        ({"kernel": (5, 3, 8, 8)}, False),
        ({"stride": (2, 1)}, False),
        ({"rate": (4, 1), "pads": ((4, 4), (1, 1))}, True),
        ({"rate": (16, 1), "pads": ((16, 16), (1, 1))}, False),
        ({"rate": (6, 1), "pads": ((6, 6), (1, 1))}, True),
        ({"rate": (6, 6), "pads": ((6, 6), (6, 6))}, False),
    ],
)
def test_what_suits(changes, suited):
    usual = {"shape": (2, 32, 32, 8), "kernel": (3, 3, 8, 8), "stride": (1, 1), "rate": (1, 1), "pads": ((1, 1),) * 2}
    assert winograd.suits(**{**usual, **changes}) is suited


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_other_types_keep_xlas(dtype):
    with jax.enable_x64(dtype == jnp.float64), formulations(unstrided="winograd", kernel_gradient="winograd"):
        program = jax.make_jaxpr(conv2d)(jnp.ones((1, 8, 8, 4), dtype), jnp.ones((3, 3, 4, 4), dtype))
    assert "conv_general_dilated" in str(program)
