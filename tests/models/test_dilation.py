from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.training.state import init_variables

# Trainable parameters of the authors' Caffe networks (fyu/dilation); dilation10's without its fixed upsampling.
PUBLISHED = [
    ("dilation8", 11, 134_313_443),
    ("dilation7", 11, 134_312_343),
    ("dilation10", 19, 134_373_043 - 19 * 16 * 16),
    ("dilation8-large", 21, 141_149_720),
]


def _shapes(model, size=(40, 56)):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x), jax.random.key(0), images)


@pytest.mark.parametrize(("variant", "classes", "parameters"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters):
    _, variables = _shapes(create_model(f"dilation/{variant}", classes))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == parameters


def test_the_front_end_mirrors_the_authors_186_pixels():
    model = create_model("dilation/front-end", 5)
    images = jax.ShapeDtypeStruct((1, 528, 528, 3), jnp.float32)
    program = str(jax.make_jaxpr(lambda k, x: model.init_with_output(k, x)[0])(jax.random.key(0), images))
    assert "f32[1,900,900,3]" in program
    assert "f32[1,66,66,4096]" in program


@pytest.mark.parametrize("fields", [{}, dict(pad_once=True)])
def test_the_context_module_starts_as_the_identity(fields):
    model = create_model("dilation/test", 3, **fields)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 24, 3)), jnp.float32)
    params = dict(init_variables(model, 0, x.shape[1:])["params"])
    # Scores far enough above zero for the ReLUs, and different enough.
    params["score"] = {"kernel": 1000 * params["score"]["kernel"], "bias": jnp.asarray([20.0, 25.0, 30.0])}
    for name in [name for name in params if name.startswith("context")]:
        params[name] = jax.tree.map(lambda leaf: jnp.where(leaf > 0.2, leaf, 0.0), params[name])
    after = jax.jit(model.apply)({"params": params}, x)["logits"].upsample()
    front = {name: params[name] for name in ("encoder", "score")}
    before = jax.jit(model.clone(rates=(), widths=()).apply)({"params": front}, x)["logits"].upsample()
    assert before.min() > 0
    assert before.std((1, 2)).min() > 1e-3
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_as_many_widths_as_rates():
    with pytest.raises(ModelError, match="2 widths for 3 rates"):
        _shapes(create_model("dilation/test", 5, widths=(1, 2)))
