"""Atrous spatial pyramid pooling: branches, parameter counts, image pooling."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.nn.context import ASPP, ImagePooling

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def traced(layer, channels):
    x = jax.ShapeDtypeStruct((2, 5, 7, channels), jnp.float32)
    return jax.eval_shape(lambda a: layer.init_with_output(KEYS, a, True), x)


def test_parameter_count_of_the_published_head():
    """torchvision's DeepLabV3 head on 2048 channels and 21 classes: 16,130,837, two convolutions of it after ours."""
    y, variables = traced(ASPP(256, (12, 24, 36)), 2048)
    assert y.shape == (2, 5, 7, 256)
    assert set(variables["params"]) == {"point", "rate_12", "rate_24", "rate_36", "pool", "project"}
    after = 256 * 256 * 9 + 2 * 256 + 256 * 21 + 21
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == 16_130_837 - after


@pytest.mark.parametrize("between", [True, False])
def test_separable_branches(between):
    _, variables = traced(ASPP(8, (2,), separable=True, norm_between=between), 4)
    assert set(variables["params"]["rate_2"]) == {"depthwise", "pointwise"}
    assert ("norm" in variables["params"]["rate_2"]["depthwise"]) == between


def test_image_pooling_is_the_same_at_every_pixel():
    x = jax.random.normal(jax.random.key(2), (2, 3, 4, 5))
    y, variables = ImagePooling(6).init_with_output(KEYS, x, False)
    assert y.shape == (2, 3, 4, 6)
    np.testing.assert_array_equal(y, jnp.broadcast_to(y[:, :1, :1], y.shape))
    kernel = np.asarray(variables["params"]["conv_norm"]["conv"]["kernel"])[0, 0]
    expected = np.maximum(np.asarray(x, np.float64).mean((1, 2)) @ kernel / math.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(y[:, 0, 0], expected, rtol=1e-4, atol=1e-6)
