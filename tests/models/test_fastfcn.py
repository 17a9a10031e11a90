from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model

# Trainable parameters and statistics of wuhuikai/FastFCN less its unused ImageNet classifier (2,049,000) and, for enc,
# the classifier of the semantic encoding loss (30,267); of mmsegmentation.
PUBLISHED = [
    ("resnet50-psp", 59, 70_895_390 - 2_049_000, 78_592),
    ("resnet50-aspp", 59, 63_931_934 - 2_049_000, 77_056),
    ("resnet50-enc", 59, 49_443_769 - 2_049_000 - 30_267, 75_584),
    ("resnet50-fcn", 59, 57_259_806 - 2_049_000, 74_496),
    ("resnet101-aspp", 59, 82_924_062 - 2_049_000, 129_280),
    ("resnet101-enc", 59, 68_435_897 - 2_049_000 - 30_267, 127_808),
    ("resnet101-fcn", 59, 76_251_934 - 2_049_000, 126_720),
    ("resnet50-psp-mmseg", 19, 68_711_046, 78_336),
]


def _init(model):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    variables = _init(create_model(f"fastfcn/{variant}", classes))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_an_unknown_head_is_one_line_of_error():
    with pytest.raises(ModelError, match=r"FastFCN has no head 'pspp'.*'psp'"):
        _init(create_model("fastfcn/test", 5, head="pspp"))
