from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model

# Trainable parameters of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet101", 19, 68_072_166, 111_360),
    ("resnet101", 150, 68_173_036, 111_360),
    ("resnet152", 21, 83_717_354, 157_440),
    ("resnet50-mmseg", 19, 48_975_494, 58_880),
    ("resnet101-mmseg", 19, 67_967_622, 111_104),
    ("resnet18-csail", 150, 24_566_636, 15_488),
    ("resnet50-csail", 150, 51_579_116, 59_648),
    ("resnet101-csail", 150, 70_571_244, 111_872),
]


def _init(model, height=64, width=64):
    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    variables = _init(create_model(f"pspnet/{variant}", classes))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_without_an_auxiliary_head():
    model = create_model("pspnet/test", 5, aux_features=0)
    assert set(_init(model)["params"]) == {"encoder", "pyramid", "head"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(encoder="resnet51"), "encoder 'resnet51' is unknown"),
        (dict(encoder_options=dict(stemm="deep")), "encoder 'resnet_test' has no field 'stemm'"),
        (dict(output_stride=12), "output_stride=12 is impossible"),
    ],
)
def test_an_impossible_encoder_is_one_line_of_error(fields, message):
    with pytest.raises(ModelError, match=message):
        _init(create_model("pspnet/test", 5, **fields), 24, 24)
