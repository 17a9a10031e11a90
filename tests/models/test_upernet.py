from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model

# Trainable parameters and statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet50", 150, 64_222_294, 65_792),
    ("resnet101", 150, 83_214_422, 118_016),
    ("resnet50-mmseg", 19, 66_415_238, 66_048),
    ("resnet50-mmseg", 150, 66_516_108, 66_048),
    ("resnet101-mmseg", 150, 85_508_236, 118_272),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    model = create_model(f"upernet/{variant}", classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics
