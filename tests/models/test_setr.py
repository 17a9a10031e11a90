from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# fudan-zvg/SETR at 1361561f: trainable parameters of its configs, then what it makes and never uses: a classifier of
# 512 K + K a head and, with MLA, the class token and its position.
PUBLISHED = [
    ("naive", 19, {}, 306_576_536 - 4 * 9_747),
    ("naive-base", 19, {}, 88_270_232 - 4 * 9_747),
    ("mla", 19, {}, 310_805_618 - 5 * 9_747 - 2 * 1_024),
    ("pup", 19, {}, 319_113_662 - 5 * 9_747),
    ("naive", 150, dict(encoder_options=dict(grid=32)), 305_669_296 - 4 * 76_950),
]
DECODERS = {"naive": dict(decoder="naive"), "pup": {}, "mla": dict(decoder="mla", blocks=(1, 2))}


@pytest.mark.parametrize(("variant", "classes", "fields", "parameters"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, fields, parameters):
    variables = init_shapes(create_model(f"setr/{variant}", classes, **fields))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == parameters


@pytest.mark.parametrize("decoder", DECODERS)
def test_each_decoder_gives_the_images_size_and_its_auxiliary_heads(decoder):
    model = create_model("setr/test", 5, **DECODERS[decoder])
    images = jax.ShapeDtypeStruct((2, 32, 80, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    out, variables = jax.eval_shape(functools.partial(model.init_with_output, train=True), keys, images)
    assert [out["logits"].shape, *(head.shape for head in out["aux_logits"])] == [(2, 32, 80, 5)] * (
        1 + len(model.blocks)
    )
    assert ("class_token" in variables["params"]["encoder"]) == (decoder != "mla")


@pytest.mark.parametrize(
    ("fields", "culprit"),
    [
        (dict(decoder="up"), "decoder='up' is unknown: use 'naive', 'pup' or 'mla'"),
        (dict(blocks=(3,)), r"blocks=\(3,\): give some of the encoder's blocks 1 to 2"),
        (dict(encoder="resnet18"), "'resnet18' has no field 'class_token'"),
    ],
)
def test_a_bad_field_is_named(fields, culprit):
    with pytest.raises(ModelError, match=culprit):
        init_shapes(create_model("setr/test", 5, **fields))
