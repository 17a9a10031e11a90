from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes
from segjax.training.state import init_variables


@pytest.mark.parametrize(("variant", "parameters"), [("plain", 9_163_329), ("supervised", 9_163_329 + 3 * 33)])
def test_parameters_of_the_published_layout(variant, parameters):
    """4uiiurz1/pytorch-nested-unet at 557ea02f, 1 class; with deep supervision three more classifiers of 32 + 1."""
    variables = init_shapes(create_model(f"unetpp/{variant}", 1))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["batch_stats"])) == 7_296


def test_a_column_answers_as_a_network_of_its_depth():
    """Cut after column 1, nothing below level 1 is needed (the paper's figure 3)."""
    whole, cut = create_model("unetpp/test", 3, column=1), create_model("unetpp/test", 3, widths=(4, 6))
    images = np.random.default_rng(0).normal(size=(1, 8, 12, 3)).astype(np.float32)
    variables = init_variables(whole, 0, (8, 12, 3))
    kept = {kind: {name: tree[name] for name in init_shapes(cut)[kind]} for kind, tree in variables.items()}
    pruned = whole.apply(variables, jnp.asarray(images))["logits"].upsample()
    np.testing.assert_allclose(pruned, cut.apply(kept, jnp.asarray(images))["logits"].upsample(), atol=1e-6)


@pytest.mark.parametrize("fields", [dict(column=3), dict(column=1, deep_supervision=False)])
def test_a_column_without_a_classifier_is_refused(fields):
    with pytest.raises(ModelError, match=r"column=\d: use 0 to 2"):
        init_shapes(create_model("unetpp/test", 3, **fields))
