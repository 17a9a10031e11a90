from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.semantic.gcn import BoundaryRefinement

# Trainable parameters and statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet101-k7", 21, 43_725_972, 105_344),
    ("resnet152-k7", 21, 59_369_620, 151_424),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    model = create_model(f"gcn/{variant}", classes)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_boundary_refinement_adds_to_its_input():
    block = BoundaryRefinement()
    x = jax.random.normal(jax.random.key(0), (1, 5, 6, 3))
    variables = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(1), x))
    assert jnp.array_equal(block.apply(variables, x), x)


def test_an_even_kernel_is_refused():
    model = create_model("gcn/test", 5, kernel_size=8)
    with pytest.raises(ModelError, match="kernel_size=8 is even"):
        jax.eval_shape(lambda k: model.init(k, jnp.zeros((1, 64, 64, 3))), jax.random.key(0))
