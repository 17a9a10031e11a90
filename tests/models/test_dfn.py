from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS
from segjax.models.base import init_shapes
from segjax.models.count import cost
from segjax.models.semantic.dfn import DFN


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_parameters_of_the_published_layout():
    variables = init_shapes(create_model("dfn/resnet101", 21))
    # ycszen/TorchSeg at 62eeb159, voc.dfn.R101_v1c, less the border block it never calls: of 21 channels, a 1x1 and two
    # 3x3 convolutions without bias and a batch normalisation.
    dead = 19 * 21 * 21 + 2 * 21
    assert _count(variables["params"]) == 90_724_344 - dead
    assert _count(variables["batch_stats"]) == 116_864 - 2 * 21
    border = {name: tree for name, tree in variables["params"].items() if name.startswith("border")}
    assert _count(border) == 112_560 + 33_684 + 6_700 - dead


class Whole(DFN):
    """Evaluates all it has, as the reference does."""

    def is_initializing(self) -> bool:
        return True


def test_work_of_the_published_layout():
    assert cost(Whole(21), (512, 512)).macs / 1e9 == pytest.approx(279.96, abs=0.005)


def test_evaluation_runs_neither_the_border_network_nor_the_coarse_heads():
    one, wide = (cost(create_model("dfn/test", 5, border_features=n), (64, 64)).macs for n in (4, 8))
    assert one == wide
    assert one < cost(Whole(5, encoder="resnet_test", features=8, border_features=4), (64, 64)).macs


def test_every_stage_is_supervised_in_training():
    model = create_model("dfn/test", 5)
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    shapes = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, True, mutable=["batch_stats"])[0], init_shapes(model), images
    )
    assert len(shapes[AUX_LOGITS]) == 3
    assert shapes[BORDER_LOGITS].shape == (1, 64, 96, 4)
