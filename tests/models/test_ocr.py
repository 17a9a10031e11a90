from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes
from segjax.models.semantic.ocr import _objects

# Trainable parameters and running statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("hrnet-w48", dict(conv_bias=True), 70_372_678, 91_168),
    ("hrnet-w48", {}, 70_371_446, 91_168),
    ("hrnet-w18", {}, 12_080_036, 40_108),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "fields", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, fields, parameters, statistics):
    variables = init_shapes(create_model(f"ocr/{variant}", 19, **fields))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


@pytest.mark.parametrize("output_stride", [8, 16])
def test_on_a_dilated_resnet(output_stride):
    model = create_model("ocr/test", 5, encoder="resnet_test", joined_stages=False, output_stride=output_stride)
    images = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)

    def run(key, x):
        out, variables = model.init_with_output(key, x)
        return out, model.apply(variables, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"])[0]

    evaluated, trained = jax.eval_shape(run, jax.random.key(0), images)
    assert set(evaluated) == {"logits"}
    assert [head.shape for head in trained["aux_logits"]] == [(2, 64, 96, 5)] == [evaluated["logits"].shape]


def test_an_object_is_the_mean_of_its_region():
    pixels = jax.random.normal(jax.random.key(0), (1, 2, 3, 4))
    scores = jnp.zeros((1, 2, 3, 2)).at[0, 1, 2, 1].set(100.0)
    objects = _objects(pixels, scores)[0, :, 0]
    np.testing.assert_allclose(objects[0], pixels.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(objects[1], pixels[0, 1, 2], rtol=1e-5)


def test_the_authors_biases_belong_to_hrnet():
    fields = dict(encoder="resnet_test", joined_stages=False, output_stride=8, conv_bias=True)
    with pytest.raises(ModelError, match="conv_bias=True"):
        init_shapes(create_model("ocr/test", 5, **fields))
