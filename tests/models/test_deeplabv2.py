from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model

# Trainable parameters and running statistics: kazuto1011/deeplab-pytorch; VGG16's convolutions (torchvision,
# 14,714,688) with four times fc6 (3 * 3 * 512 * 1024), fc7 (1024 * 1024) and classifier, and their biases.
PUBLISHED = [
    ("resnet101-single", 21, 44_048_532, 105_344),
    ("resnet101-single", 182, 55_919_384, 105_344),
    ("vgg16", 21, 14_714_688 + 4 * (4_719_616 + 1_049_600 + 21_525), 0),
]


def _shapes(model, train=False, size=(33, 49)):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.eval_shape(lambda x: model.init_with_output(keys, x, train), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters, statistics):
    _, variables = _shapes(create_model(f"deeplabv2/{variant}", classes))
    assert _count(variables["params"]) == parameters
    assert _count(variables.get("batch_stats", {})) == statistics


def test_scales_share_all_parameters():
    one, three = (create_model("deeplabv2/test", 5, scales=scales) for scales in ((), (0.5, 0.75)))
    assert _shapes(one)[1] == _shapes(three)[1]
    assert [len(_shapes(model, train=True)[0].get("aux_logits", ())) for model in (one, three)] == [0, 3]


@pytest.mark.parametrize("size", [(32, 64), (65, 71)])
def test_any_size(size):
    for fields in ({}, dict(encoder="vgg_test", encoder_options=dict(window=3), fc_features=4)):
        out, _ = _shapes(create_model("deeplabv2/test", 5, **fields), train=True, size=size)
        assert {head.shape for head in (out["logits"], *out["aux_logits"])} == {(1, *size, 5)}


def test_logits_are_the_largest_over_the_scales():
    model = create_model("deeplabv2/test", 3, encoder="vgg_test", encoder_options={})
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16, 16, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    out = model.apply(variables, x, train=True)
    # Both maps have two pixels a side or fewer, so that at the corners the image has exactly their values.
    heads = [logits.upsample() for logits in (out["logits"], *out["aux_logits"])]
    corners = [head[:, :: x.shape[1] - 1, :: x.shape[2] - 1] for head in heads]
    np.testing.assert_allclose(corners[0], jnp.maximum(corners[1], corners[2]), rtol=1e-5, atol=1e-7)


def test_a_scale_that_is_no_reduction_is_one_line_of_error():
    with pytest.raises(ModelError, match="between 0 and 1"):
        _shapes(create_model("deeplabv2/test", 5, scales=(0.5, 1.0)))
