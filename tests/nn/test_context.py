"""Context layers: branches, parameter counts, values against PyTorch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.nn.context import ASPP, ImagePooling, PyramidPooling, StripPooling

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


def test_parameter_count_of_the_pyramid():
    """PSPNet's pyramid on 2048 channels, as in the authors' code: four 1x1 convolutions to 512 without bias, and their
    normalisations."""
    y, variables = traced(PyramidPooling(512), 2048)
    assert y.shape == (2, 5, 7, 4096)
    assert set(variables["params"]) == {"bins_1", "bins_2", "bins_3", "bins_6"}
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])) == 4 * (2048 * 512 + 2 * 512)


def test_pyramid_equals_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = np.random.default_rng(0).normal(size=(2, 7, 9, 4)).astype(np.float32)
    layer = PyramidPooling(3)
    variables = layer.init(KEYS, x, False)
    y = layer.apply(variables, x, False)
    tx = torch.tensor(x).permute(0, 3, 1, 2)
    expected = [tx]
    for bins in (1, 2, 3, 6):
        kernel = torch.tensor(np.asarray(variables["params"][f"bins_{bins}"]["conv"]["kernel"])).permute(3, 2, 0, 1)
        branch = functional.conv2d(functional.adaptive_avg_pool2d(tx, bins), kernel) / math.sqrt(1 + 1e-5)
        expected.append(functional.interpolate(branch.relu(), (7, 9), mode="bilinear", align_corners=True))
    np.testing.assert_allclose(y, torch.cat(expected, 1).permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_strip_pooling_equals_torch():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 4)).astype(np.float32)
    layer = StripPooling()
    variables = layer.init(KEYS, x, False)
    params = variables["params"]
    assert set(params) == {"rows", "columns", "gate"}
    tx = torch.tensor(x).permute(0, 3, 1, 2)

    def conv(a, child, padding):
        kernel = torch.tensor(np.asarray(child["kernel"])).permute(3, 2, 0, 1)
        return torch.nn.functional.conv2d(a, kernel, padding=padding)

    rows = conv(tx.mean(3, keepdim=True), params["rows"]["conv"], (1, 0)) / math.sqrt(1 + 1e-5)
    columns = conv(tx.mean(2, keepdim=True), params["columns"]["conv"], (0, 1)) / math.sqrt(1 + 1e-5)
    expected = tx * conv((rows + columns).relu(), params["gate"], 0).sigmoid()
    np.testing.assert_allclose(layer.apply(variables, x, False), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [PyramidPooling(3, dtype=jnp.bfloat16), StripPooling(dtype=jnp.bfloat16)], ids=str)
def test_dtype_is_of_the_arithmetic(layer):
    y, variables = traced(layer, 4)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
