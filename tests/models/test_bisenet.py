from __future__ import annotations

import math

import jax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# Trainable parameters and running statistics, auxiliary heads included, at 19 classes.
PUBLISHED = [
    ("resnet18", 13_494_777, 13_696),  # ycszen/TorchSeg at 62eeb159
    ("xception39", 1_842_289, 11_408),  # the same
    ("resnet18-coincheung", 13_425_721, 13_824),  # CoinCheung/BiSeNet at 6b4b67a8
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, parameters, statistics):
    variables = init_shapes(create_model(f"bisenet/{variant}", 19))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_parameters_without_the_auxiliary_heads():
    params = init_shapes(create_model("bisenet/resnet18-coincheung", 19))["params"]
    assert _count({name: tree for name, tree in params.items() if not name.startswith("aux")}) == 13_275_539


def test_an_encoder_without_a_stage_is_refused():
    with pytest.raises(ModelError, match="'vit_b16' has no stage at stride 32"):
        init_shapes(create_model("bisenet/test", 5, encoder="vit_b16"))
