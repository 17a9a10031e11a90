"""Convolution layers: names and shapes of their parameters, types, and one value against PyTorch each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.paths import named_leaves
from segjax.nn.conv import Conv, ConvNorm, GlobalConv, SeparableConv, UpConv

torch = pytest.importorskip("torch")

KEY = jax.random.key(0)


def shapes(variables):
    return {name: leaf.shape for name, leaf in named_leaves(variables).items()}


def traced(layer, shape, **how):
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda a: layer.init_with_output(KEY, a, **how), x)


def test_conv_equals_torch_with_its_bias():
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 4)).astype(np.float32)
    layer = Conv(6, (3, 5), stride=2, groups=2)
    variables = layer.init(KEY, x)
    assert shapes(variables) == {"params/bias": (6,), "params/kernel": (3, 5, 2, 6)}
    variables["params"]["bias"] = jnp.arange(6.0)
    kernel = torch.tensor(np.asarray(variables["params"]["kernel"])).permute(3, 2, 0, 1)
    expected = torch.nn.functional.conv2d(
        torch.tensor(x).permute(0, 3, 1, 2), kernel, torch.arange(6.0), stride=2, padding=(1, 2), groups=2
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_upconv_equals_torch_with_its_bias():
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    layer = UpConv(2, 3, padding=1, output_padding=1)
    variables = layer.init(KEY, x)
    assert shapes(variables) == {"params/bias": (2,), "params/kernel": (3, 3, 3, 2)}
    variables["params"]["bias"] = jnp.arange(2.0)
    kernel = torch.tensor(np.asarray(variables["params"]["kernel"])).permute(2, 3, 0, 1)
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(x).permute(0, 3, 1, 2), kernel, torch.arange(2.0), stride=2, padding=1, output_padding=1
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_global_conv_is_one_large_kernel():
    """The two pairs are one dense kernel, the sum of two products of a column and a row."""
    x = np.random.default_rng(0).normal(size=(1, 9, 8, 2)).astype(np.float32)
    layer = GlobalConv(3, 5)
    variables = layer.init(KEY, x)
    names = ("tall_first", "wide_second", "wide_first", "tall_second")
    assert shapes(variables) == {
        **{f"params/{name}/bias": (3,) for name in names},
        "params/tall_first/kernel": (5, 1, 2, 3),
        "params/wide_second/kernel": (1, 5, 3, 3),
        "params/wide_first/kernel": (1, 5, 2, 3),
        "params/tall_second/kernel": (5, 1, 3, 3),
    }
    a, b, c, d = (np.asarray(variables["params"][name]["kernel"], np.float64) for name in names)
    dense = np.einsum("iam,jmn->ijan", a[:, 0], b[0]) + np.einsum("jam,imn->ijan", c[0], d[:, 0])
    expected = torch.nn.functional.conv2d(
        torch.tensor(x, dtype=torch.float64).permute(0, 3, 1, 2), torch.tensor(dense).permute(3, 2, 0, 1), padding=2
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_global_conv_needs_a_centre():
    with pytest.raises(ModelError, match="kernel_size=4 is even"):
        GlobalConv(3, 4).init(KEY, jnp.zeros((1, 8, 8, 2)))


@pytest.mark.parametrize("layer", [Conv(64), UpConv(64, 2), UpConv(64, 4, padding=1)], ids=["conv", "up 2", "up 4"])
def test_initial_kernels_double_the_variance(layer):
    """He initialisation: a ReLU that halves the second moment follows."""
    x = jax.random.normal(jax.random.key(1), (1, 12, 12, 64))
    inner = layer.init_with_output(KEY, x)[0][:, 2:-2, 2:-2]
    assert 1.7 < float(inner.var()) < 2.3


def test_conv_norm_children_and_activation():
    x = jax.random.normal(KEY, (2, 6, 5, 3))
    layer = ConvNorm(4)
    y, variables = layer.init_with_output(KEY, x, True)
    assert shapes(variables) == {
        "batch_stats/norm/mean": (4,),
        "batch_stats/norm/var": (4,),
        "params/conv/kernel": (3, 3, 3, 4),
        "params/norm/bias": (4,),
        "params/norm/scale": (4,),
    }
    linear = ConvNorm(4, act=None).apply(variables, x, True, mutable=["batch_stats"])[0]
    np.testing.assert_array_equal(y, jnp.maximum(linear, 0))
    np.testing.assert_allclose(linear.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(linear.var((0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize("between", [True, False])
def test_separable_conv_children(between):
    layer = SeparableConv(5, rate=2, stride=2, norm_between=between)
    y, variables = traced(layer, (1, 8, 6, 4), train=False)
    assert y.shape == (1, 4, 3, 5)
    depthwise = "params/depthwise/conv/kernel" if between else "params/depthwise/kernel"
    assert shapes(variables)[depthwise] == (3, 3, 1, 4)
    assert shapes(variables)["params/pointwise/conv/kernel"] == (1, 1, 4, 5)
    assert len(jax.tree.leaves(variables["params"])) == (6 if between else 4)


@pytest.mark.parametrize(
    "layer", [Conv(4, dtype=jnp.bfloat16), UpConv(4, dtype=jnp.bfloat16)], ids=lambda layer: type(layer).__name__
)
def test_dtype_is_of_the_arithmetic_only(layer):
    y, variables = traced(layer, (1, 4, 4, 3))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
