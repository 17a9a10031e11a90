from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from segjax.nn.transformer import Attention, TransformerBlock


def _random(module, x, *args):
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, *args))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_attention_equals_its_definition():
    """softmax(q k^T / sqrt(d)) v, head by head (equation 1 of Vaswani et al.)."""
    x = np.random.default_rng(1).normal(size=(2, 5, 6)).astype(np.float32)
    module = Attention(heads=2)
    variables = _random(module, x)
    params = variables["params"]

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    query, key, value = (dense(x, name).reshape(2, 5, 2, 3) for name in ("query", "key", "value"))
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(3)
    expected = np.einsum("bhqk,bkhd->bqhd", scipy.special.softmax(scores, -1), value).reshape(2, 5, 6)
    np.testing.assert_allclose(module.apply(variables, x), dense(expected, "project"), rtol=1e-4, atol=1e-4)


def test_softmax_is_float32_and_keys_are_reduced():
    x = jax.ShapeDtypeStruct((2, 8, 4, 6), jnp.float32)
    module = Attention(heads=2, reduction=2, dtype=jnp.bfloat16)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    program = str(jax.make_jaxpr(module.apply)(variables, x))
    # 8 x 4 queries, 4 x 2 keys.
    assert re.findall(r":(\w+)\[[\d,]*32,8\] = exp", program) == ["f32"]


def test_drop_path_leaves_branches_out_image_by_image():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(24, 3, 4)), jnp.float32)
    block = TransformerBlock(heads=2, drop_path=0.5)
    variables = _random(block, x, False)
    trained = block.apply(variables, x, True, rngs={"dropout": jax.random.key(3)})
    untouched = np.asarray(jnp.abs(trained - x).max(axis=(1, 2)) == 0)
    assert 0 < untouched.sum() < 24
    np.testing.assert_array_equal(block.apply(variables, x, False), TransformerBlock(heads=2).apply(variables, x, True))
