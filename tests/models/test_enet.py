"""What is particular about ENet."""

from __future__ import annotations

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.ops.formulation import formulations

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


@functools.cache
def variables(name, **fields):
    model = create_model(name, 19, **fields)
    return jax.eval_shape(model.init, KEYS, jax.ShapeDtypeStruct((1, 16, 24, 3), jnp.float32))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def test_default_count_and_the_paper_s_with_its_redundant_biases():
    params = variables("enet/paper")["params"]
    assert count(params) == 364_338
    # The paper leaves out biases "in any of the projections"; every other convolution of the released code has one.
    projections = {"reduce", "expand", "shortcut"}
    biases = params["initial"]["kernel"].shape[-1]
    for name, block in params.items():
        if name.startswith(("down", "up", "stage")):
            for child, layer in block.items():
                kernel = layer.get("kernel", layer.get("conv", {}).get("kernel"))
                # Of an asymmetric pair only the second has a bias in the released code.
                if kernel is not None and child not in projections | {"column"}:
                    biases += kernel.shape[-1]
    assert biases == 693
    assert round((count(params) + biases) / 1e6, 2) == 0.37


def test_bottleneck_layout_of_table_1():
    params = variables("enet/paper")["params"]
    stages = [sum(name.startswith(f"stage{i}_") for name in params) for i in (1, 2, 3, 4, 5)]
    assert stages == [4, 8, 8, 2, 1]
    for stage in (2, 3):
        asymmetric = [i for i in range(1, 9) if "column" in params[f"stage{stage}_{i}"]]
        assert asymmetric == [3, 7]
    assert params["stage2_1"]["reduce"]["conv"]["kernel"].shape == (1, 1, 128, 32)
    assert params["down2"]["reduce"]["conv"]["kernel"].shape == (2, 2, 64, 32)
    assert params["logits"]["kernel"].shape == (2, 2, 16, 19)
    assert params["stage4_1"]["act"]["slope"].shape == (64,)


def program(name, train):
    model = create_model(name, 19)
    images = jax.ShapeDtypeStruct((2, 16, 24, 3), jnp.float32)

    def apply(v, x):
        return model.apply(v, x, train=train, rngs={"dropout": jax.random.key(0)}, mutable=["batch_stats"])

    return str(jax.make_jaxpr(apply)(variables(name), images))


def test_rates_are_2_4_8_16_twice():
    with formulations(unstrided="native"):
        text = program("enet/paper", False)
    for rate in (2, 4, 8, 16):
        assert text.count(f"rhs_dilation=({rate}, {rate})") == 2


def test_dropout_takes_whole_channels():
    """One draw an image and a channel, none an element."""
    draws = re.findall(r":u32\[([\d,]+)\] = random_bits\[", program("enet/paper", True))
    assert set(draws) == {"2,1,1,16", "2,1,1,64", "2,1,1,128"}


def test_an_unknown_layout_suggests_the_nearest():
    with pytest.raises(ModelError, match=r"no layout 'davidtv'\. Did you mean 'davidtvs'"):
        variables("enet/paper", layout="davidtv")


def test_more_image_channels_than_first_features():
    model = create_model("enet/paper", 4, in_channels=16)
    with pytest.raises(ModelError, match="in_channels=16 leave no room in 16"):
        jax.eval_shape(model.init, KEYS, jnp.zeros((1, 16, 16, 16)))
