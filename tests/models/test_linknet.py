from __future__ import annotations

import math

import jax
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes


def test_parameters_of_the_published_layout():
    """e-lab/pytorch-linknet at 99a7c813, 21 classes."""
    variables = init_shapes(create_model("linknet/resnet18", 21))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == 11_535_957
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["batch_stats"])) == 11_712


def test_bottlenecks_make_the_links_wider_but_not_the_last_one():
    params = init_shapes(create_model("linknet/test", 5, encoder="resnet50"))["params"]
    widths = [params[f"decoder{i}"]["expand"]["conv"]["kernel"].shape[-1] for i in (4, 3, 2, 1)]
    assert widths == [1024, 512, 256, 64]


def test_an_encoder_without_a_stage_is_refused():
    with pytest.raises(ModelError, match="'mit_b0' has no stage at stride 2"):
        init_shapes(create_model("linknet/test", 5, encoder="mit_b0"))
