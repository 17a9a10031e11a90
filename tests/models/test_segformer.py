from __future__ import annotations

import math

import jax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# NVlabs/SegFormer at 65fa8cfa less its classifier that never runs (128 K + K); b0 at 150 classes
# is Hugging Face's 3,752,694.
PUBLISHED = [
    ("b0", 150, 3_772_044 - 19_350),
    ("b0", 19, 3_721_478 - 2_451),
    ("b2", 150, 27_481_324 - 19_350),
    ("b5", 19, 84_610_406 - 2_451),
]


@pytest.mark.parametrize(("variant", "classes", "parameters"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters):
    variables = init_shapes(create_model(f"segformer/{variant}", classes))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == parameters
    statistics = 512 if variant == "b0" else 1536
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["batch_stats"])) == statistics


def test_an_encoder_without_its_field_is_refused():
    with pytest.raises(ModelError, match="'resnet18' has no field 'drop_path'"):
        init_shapes(create_model("segformer/b0", 5, encoder="resnet18", encoder_options=dict(drop_path=0.0)))


def test_an_encoder_without_a_stage_is_refused():
    with pytest.raises(ModelError, match="'vit_b16' has no stage at stride 4"):
        init_shapes(create_model("segformer/b0", 5, encoder="vit_b16"))
