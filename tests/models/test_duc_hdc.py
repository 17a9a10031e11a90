from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model

# Trainable parameters and statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet50", 19, 45_924_992, 55_552),
    ("resnet101", 19, 64_917_120, 107_776),
    ("resnet152", 19, 80_560_768, 153_856),
    ("resnet101-duc", 19, 64_917_120, 107_776),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    model = create_model(f"duc_hdc/{variant}", classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics
