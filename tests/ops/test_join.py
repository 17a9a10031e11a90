"""Mixed before or after enlarging, the joined maps are the same; the parameters are those of a ConvNorm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.nn.conv import ConvNorm
from segjax.nn.join import JoinNorm
from segjax.ops.formulation import formulations
from segjax.ops.join import join
from segjax.ops.resize import resize

SHAPES = [(2, 8, 12, 3), (2, 4, 6, 2), (2, 3, 4, 5)]


def example(dtype=jnp.float64):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=s), dtype) for s in SHAPES], jnp.asarray(rng.normal(size=(1, 1, 10, 4)), dtype)


@pytest.mark.parametrize("align_corners", [False, True])
def test_value_and_gradients_in_float64(align_corners):
    with jax.enable_x64(True):
        maps, kernel = example()

        def run(choice):
            with formulations(join=choice):
                value, pullback = jax.vjp(
                    lambda maps, kernel: join(maps, kernel, align_corners=align_corners), maps, kernel
                )
                return value, pullback(jnp.cos(value))

        enlarged = [resize(x, (8, 12), align_corners=align_corners) for x in maps]
        by_hand = jnp.concatenate(enlarged, -1) @ kernel[0, 0]
        early, native = run("early"), run("native")
        np.testing.assert_allclose(early[0], by_hand, atol=1e-12)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), early, native)


def test_bfloat16_adds_up_in_float32():
    maps = [jnp.ones((1, size, size, 1), jnp.bfloat16) for size in (4, 2, 1)]
    kernel = jnp.asarray([256, 1, 1], jnp.bfloat16).reshape(1, 1, 3, 1)
    with formulations(join="early"):
        value = join(maps, kernel)
    # A running sum in bfloat16 stays at 256: its next number is 258.
    assert value.dtype == jnp.bfloat16
    assert (value == 258).all()


def test_the_layer_has_a_conv_norms_parameters_and_values():
    maps, _ = example(jnp.float32)
    layer, plain = JoinNorm(4, use_bias=True), ConvNorm(4, 1, use_bias=True)
    joined = jnp.concatenate([resize(x, (8, 12)) for x in maps], -1)
    variables = plain.init(jax.random.key(0), joined, False)
    assert jax.tree.map(jnp.shape, layer.init(jax.random.key(0), maps, False)) == jax.tree.map(jnp.shape, variables)
    np.testing.assert_allclose(layer.apply(variables, maps, False), plain.apply(variables, joined, False), atol=1e-5)


def test_a_kernel_that_does_not_fit_is_refused():
    maps, kernel = example(jnp.float32)
    with pytest.raises(ModelError, match=r"a kernel \(1, 1, 9, 4\) does not mix maps of \[3, 2, 5\] channels"):
        join(maps, kernel[:, :, 1:])
