from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes
from segjax.models.encoders import create_encoder

# Trainable parameters and running statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("w48", dict(conv_bias=True), 65_859_379, 85_536),
    ("w48", {}, 65_858_659, 85_536),
    ("w18", {}, 9_640_849, 34_476),
]
# timm's and mmsegmentation's, without the classification head.
ENCODERS = {
    "hrnet_w18_small": 1_477_920,
    "hrnet_w18_small_v2": 3_860_720,
    "hrnet_w18": 9_562_260,
    "hrnet_w32": 29_305_536,
    "hrnet_w48": 65_325_120,
}


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "fields", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, fields, parameters, statistics):
    variables = init_shapes(create_model(f"hrnet/{variant}", 19, **fields))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_parameters_of_the_encoders(name):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(create_encoder(name).init, jax.random.key(0), image)
    assert _count(variables["params"]) == ENCODERS[name]


def test_features_by_stride():
    encoder = create_encoder("hrnet_test")
    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    assert {s: x.shape for s, x in features.items()} == {
        s: (2, 64 // s, 96 // s, encoder.channels[s]) for s in (4, 8, 16, 32)
    }


def test_another_output_stride_is_one_line_of_error():
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with pytest.raises(ModelError, match="output_stride=8 is impossible for HRNet"):
        jax.eval_shape(create_encoder("hrnet_test", 8).init, jax.random.key(0), image)
