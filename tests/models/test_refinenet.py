from __future__ import annotations

import math

import jax
import pytest

from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# Trainable parameters and running statistics at 21 and 40 classes of DrSleep/refinenet-pytorch and
# DrSleep/light-weight-refinenet.
PUBLISHED = [
    ("resnet101", 21, 118_052_437, 105_344),
    ("resnet101", 40, 118_096_232, 105_344),
    ("lw-resnet101", 21, 46_349_653, 105_344),
    ("lw-resnet50", 21, 27_357_525, 53_120),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    variables = init_shapes(create_model(f"refinenet/{variant}", classes))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics
