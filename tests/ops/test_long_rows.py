"""Rows joined end to end: XLA's own result and gradients, and a convolution that has a single row to divide."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from segjax.ops import long_rows
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations

# (rows and columns of the image, taps, rate, pads)
CASES = {
    "point": ((5, 7), (1, 1), (1, 1), ((0, 0), (0, 0))),
    "padded point": ((5, 7), (1, 1), (1, 1), ((1, 0), (0, 2))),
    "3x1": ((5, 7), (3, 1), (1, 1), ((1, 1), (0, 0))),
    "3x1, columns padded": ((5, 7), (3, 1), (1, 1), ((1, 1), (1, 2))),
    "4x1 rate 2, lopsided": ((9, 4), (4, 1), (2, 1), ((1, 3), (0, 0))),
    "3x1 rate 6, of 5 rows": ((5, 7), (3, 1), (6, 1), ((6, 6), (0, 0))),
    "3x1 cropped": ((8, 4), (3, 1), (1, 1), ((-2, 1), (0, -1))),
    "1x3": ((5, 7), (1, 3), (1, 1), ((0, 0), (1, 1))),
    "1x3, rows padded": ((5, 7), (1, 3), (1, 1), ((2, 1), (1, 1))),
    "1x4 rate 2, lopsided": ((5, 9), (1, 4), (1, 2), ((0, 0), (4, 0))),
    "1x3 rate 6, of 5 columns": ((4, 5), (1, 3), (1, 6), ((0, 0), (6, 6))),
    "1x3 valid": ((4, 5), (1, 3), (1, 1), ((0, 0), (0, 0))),
}


def native(x, kernel, rate, pads):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, rhs_dilation=rate, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("case", CASES)
def test_float64(case):
    size, taps, rate, pads = CASES[case]
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(rng.normal(size=(2, *size, 5))), jnp.asarray(rng.normal(size=(*taps, 5, 3)))
        expected = native(x, kernel, rate, pads)
        np.testing.assert_allclose(long_rows.convolve(x, kernel, rate, pads), expected, atol=1e-12)


@pytest.mark.parametrize(("taps", "rate", "padding"), [((3, 1), 2, "same"), ((1, 5), 1, "same"), ((1, 1), 1, 1)])
def test_a_layer_takes_it_for_result_and_gradient(taps, rate, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 6, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(*taps, 4, 3)), jnp.float32)

    def run(x, kernel):
        value, pullback = jax.vjp(lambda x, k: conv2d(x, k, rate=rate, padding=padding), x, kernel)
        return value, pullback(jnp.cos(value))

    with formulations(unstrided="long_rows", kernel_gradient="products"):
        program = str(jax.make_jaxpr(lambda x, k: run(x, k))(x, kernel))
        ours = run(x, kernel)
    rows = [int(height) for height in re.findall(r"f32\[2,(\d+),\d+,\d\] = conv_general_dilated", program)]
    assert rows == [1, 1]
    with formulations(unstrided="native", kernel_gradient="native"):
        theirs = run(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, theirs)


@pytest.mark.parametrize(
    ("kernel", "stride", "suited"),
    [
        ((3, 1, 4, 4), (1, 1), True),
        ((1, 1, 4, 4), (1, 1), True),
        ((3, 3, 4, 4), (1, 1), False),
        ((1, 3, 4, 4), (1, 2), False),
    ],
)
def test_what_suits(kernel, stride, suited):
    assert long_rows.suits(kernel, stride) is suited


@pytest.mark.parametrize("window", [{"rate": 1}, {"stride": 2}])
def test_what_does_not_suit_keeps_xlas(window):
    with formulations(unstrided="long_rows"):
        program = jax.make_jaxpr(lambda x, k: conv2d(x, k, **window))(jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4)))
    side = 8 // window.get("stride", 1)
    assert f"[1,{side},{side},4] = conv_general_dilated" in str(program)
