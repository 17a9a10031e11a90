from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model

# Trainable parameters and statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet101", 21, {}, 58_040_661, 108_416),
    ("resnet101-os8", 21, {}, 58_040_661, 108_416),
    ("resnet101-caffe", 21, {}, 58_040_661, 108_416),
    ("resnet50-torchvision", 21, dict(aux_features=0), 39_638_869, 56_704),
    ("resnet101-torchvision", 21, dict(aux_features=0), 58_630_997, 108_928),
    ("resnet101-torchvision", 21, {}, 60_996_202, 109_440),
    ("resnet50-mmseg", 19, {}, 68_113_030, 59_904),
]


def _init(model, size=64):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "fields", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, fields, parameters, statistics):
    variables = _init(create_model(f"deeplabv3/{variant}", classes, **fields))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_default_rates_reach_equally_far_in_the_image(output_stride, rates):
    model = create_model("deeplabv3/test", 5, output_stride=output_stride, rates=())
    names = {name for name in _init(model)["params"]["aspp"] if name.startswith("rate_")}
    assert names == {f"rate_{rate}" for rate in rates}
