from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.nn.conv import bilinear_upsampling
from segjax.ops.upconv import conv_transpose2d

# Trainable parameters of wkentaro/pytorch-fcn and of the authors' Caffe networks (shelhamer/fcn.berkeleyvision.org).
PUBLISHED = [
    ("32s", 21, 136_152_917),
    ("16s", 21, 134_815_994),
    ("8s", 21, 134_489_759),
    ("8s-atonce", 21, 134_489_759),
    ("8s", 60, 135_589_364),
    ("32s", 40, 140_978_024),
]


def _shapes(model, height=33, width=70):
    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x), jax.random.key(0), images)


@pytest.mark.parametrize(("variant", "classes", "parameters"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, parameters):
    _, variables = _shapes(create_model(f"fcn/{variant}", classes))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == parameters


@pytest.mark.parametrize(("border", "size"), [(100, (1, 1)), (100, (32, 65)), (100, (500, 375)), (81, (33, 64))])
@pytest.mark.parametrize("skips", [(), (16,), (16, 8)])
def test_any_size_and_border_give_logits_for_every_pixel(size, skips, border):
    model = create_model("fcn/test", 5, skips=skips, border=border)
    assert _shapes(model, *size)[0]["logits"].shape == (1, *size, 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(skips=(8,)), r"skips=\(8,\) is not one of"),
        (dict(skips=(), border=80), "border=80 is too small: use at least 81"),
        (dict(skips=(16,), border=72), "use at least 73"),
        (dict(border=1), "use at least 69"),
    ],
)
def test_an_impossible_field_is_one_line_of_error(fields, message):
    with pytest.raises(ModelError, match=message):
        _shapes(create_model("fcn/test", 5, **fields))


@pytest.mark.parametrize(("stride", "size"), [(2, 4), (8, 16)])
def test_transposed_convolutions_start_as_bilinear_interpolation(stride, size):
    ramp = jnp.arange(6.0)[None, :, None, None] * jnp.asarray([1.0, -2.0])
    x = jnp.broadcast_to(ramp, (1, 6, 5, 2))
    kernel = bilinear_upsampling(jax.random.key(0), (size, size, 2, 2))
    y = conv_transpose2d(x, kernel, stride=stride)
    inner = y[0, size : -size - stride, 2 * stride : -2 * stride - stride]
    rows = (np.arange(y.shape[1]) - (size - 1) / 2) / stride
    expected = rows[size : -size - stride, None, None] * np.asarray([1.0, -2.0])
    np.testing.assert_allclose(inner, np.broadcast_to(expected, inner.shape), atol=1e-5)
