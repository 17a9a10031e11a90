from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from segjax.core.registry import create_model


def _shapes(model, train):
    images = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x, train), jax.random.key(0), images)


def test_parameters_are_the_authors_and_those_of_the_training_classifiers():
    variables = _shapes(create_model("icnet", 19), False)[1]
    params = variables["params"]
    count = lambda tree: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))  # noqa: E731
    guidance = count((params["classifier_16"], params["classifier_8"]))
    # hszhao/ICNet, evaluation/prototxt/icnet_cityscapes_bnnomerge.prototxt, less the 3 scales of its input layer.
    assert count(params) - guidance == 6_699_990 - 3
    assert guidance == 257 * 19 + 129 * 19
    assert count(variables["batch_stats"]) == 28_544


def test_the_coarser_branches_are_scored_in_training_finest_first():
    out, variables = _shapes(create_model("icnet/test", 5), True)
    assert [head.shape for head in out["aux_logits"]] == [(1, 64, 96, 5)] * 2
    assert variables["params"]["classifier_8"]["kernel"].shape[2] == create_model("icnet/test", 5).features
