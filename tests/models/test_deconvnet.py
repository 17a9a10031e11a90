from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model


def _shapes(model, size=(224, 224)):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x), jax.random.key(0), images)


# The authors' Caffe network (HyeonwooNoh/DeconvNet), with its biases before normalisations and without.
@pytest.mark.parametrize(("variant", "parameters"), [("caffe", 251_805_653), ("vgg16", 251_805_653 - 16_704)])
def test_parameters_of_the_published_layout(variant, parameters):
    _, variables = _shapes(create_model(f"deconvnet/{variant}", 21))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == parameters


def test_an_image_of_224_becomes_one_vector():
    model = create_model("deconvnet/vgg16", 5)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    program = str(jax.make_jaxpr(lambda k, x: model.init_with_output(k, x)[0])(jax.random.key(0), images))
    assert "f32[1,1,1,4096]" in program


@pytest.mark.parametrize("size", [(1, 9), (33, 50), (8, 8)])
def test_any_size(size):
    assert _shapes(create_model("deconvnet/test", 5), size)[0]["logits"].shape == (1, *size, 5)
