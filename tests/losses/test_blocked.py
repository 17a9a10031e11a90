"""Summed block by block, a loss and its gradient are those of the upsampled logits."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from segjax.core.schema import IGNORE
from segjax.losses.blocked import BLOCKS, blocked_sums
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.focal import Focal
from segjax.ops.logits import Logits

K = 5


def example(small, size, dtype=jnp.float64):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, K, (2, *size))
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    valid = np.ones(labels.shape, bool)
    valid[1, :3] = False
    logits = 3 * rng.normal(size=(2, *small, K))
    return jnp.asarray(logits, dtype), jnp.asarray(labels), jnp.asarray(valid), jnp.asarray(rng.random(K), dtype)


@pytest.mark.parametrize(
    ("small", "size"), [((4, 8), (16, 64)), ((5, 7), (17, 37)), ((3, 2), (9, 3)), ((8, 16), (4, 8))]
)
@pytest.mark.parametrize(
    ("loss", "align_corners"), [(CrossEntropy(), False), (CrossEntropy(), True), (Focal(), False)], ids=str
)
def test_values_and_gradients_in_float64(loss, align_corners, small, size):
    with jax.enable_x64(True):
        logits, labels, valid, class_weights = example(small, size)
        given = {"class_weights": class_weights, "label_smoothing": 0.1 if loss.smooths else 0.0}
        # A cotangent of its own for each row: none may reach another's pixels.
        g = jnp.cos(jnp.arange(2.0 * size[0])).reshape(2, -1)

        @jax.jit
        def in_blocks(x):
            sums = partial(blocked_sums, loss, labels=labels, valid=valid, **given)
            value, pullback = jax.vjp(lambda x: sums(Logits(x, size, align_corners)), x)
            return value, pullback(g), sums(Logits(x, size, align_corners))

        @jax.jit
        def at_once(x):
            sums = partial(loss, labels=labels, valid=valid, **given)
            value, pullback = jax.vjp(lambda x: sums(Logits(x, size, align_corners).upsample())[0].sum(axis=2), x)
            return value, pullback(g), value

        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), in_blocks(logits), at_once(logits))


def test_no_index_is_empty():
    """Compiled in a `shard_map` or `pmap` over several devices, an empty constant crashes jax 0.11."""
    logits, labels, valid, _ = example((4, 2), (32, 16), jnp.float32)  # every block reads both columns
    gradient = jax.grad(lambda x: blocked_sums(CrossEntropy(), Logits(x, (32, 16)), labels, valid).sum())
    assert "i32[0]" not in str(jax.make_jaxpr(gradient)(logits))


def test_no_array_is_as_large_as_the_upsampled_logits():
    size = (32, 128)
    logits, labels, valid, _ = example((8, 16), size, jnp.float32)

    def total(x):
        return blocked_sums(CrossEntropy(), Logits(x, size), labels, valid).sum()

    largest = max(_sizes(jax.make_jaxpr(jax.value_and_grad(total))(logits).jaxpr))
    assert largest == 2 * 32 * 128 * K // BLOCKS


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (out.aval.size for out in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from _sizes(inner)


def test_what_was_said_at_an_ignored_pixel_reaches_nothing():
    logits, labels, valid, _ = example((4, 8), (4, 8), jnp.float32)
    labels = labels.at[0, 2].set(IGNORE)

    def total(x):
        return blocked_sums(CrossEntropy(), Logits(x, (4, 8)), labels, valid).sum()

    value, gradient = jax.value_and_grad(total)(logits.at[0, 2].set(1e38))
    assert jnp.isfinite(value)
    assert (gradient[0, 2] == 0).all()
