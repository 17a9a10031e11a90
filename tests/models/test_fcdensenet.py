from __future__ import annotations

import math

import jax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# Trainable parameters and running statistics in bfortuner/pytorch_tiramisu at 12 classes.
PUBLISHED = [("103", 9_322_348, 103_072), ("67", 3_463_532, 39_680), ("56", 1_376_988, 21_168)]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, parameters, statistics):
    variables = init_shapes(create_model(f"fcdensenet/{variant}", 12))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_a_block_without_layers_is_one_line_of_error():
    with pytest.raises(ModelError, match="give every block a layer"):
        init_shapes(create_model("fcdensenet/test", 5, layers=(2, 0)))
