from __future__ import annotations

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.core.registry import create_model
from segjax.models.semantic.segnet import ZERO_GRADIENT

BASIC = dict(depths=(1, 1), widths=(4, 4), kernel_size=7, decoder_relu=False, extra_classifier=True)


def _shapes(model, size=32):
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("variant", "classes", "count"),
    [
        ("caffe", 11, 29_449_355),
        ("caffe", 21, 29_455_125),
        ("vgg16", 11, 29_449_355 - 7_936),
        ("bayesian", 21, 29_455_125 - 7_936),
        # The 8 convolutions of 7x7 and their normalisations, and a 1x1 classifier with bias.
        ("basic", 11, 49 * 64 * (3 + 7 * 64) + 8 * 2 * 64 + 64 * 11 + 11),
    ],
)
def test_parameters(variant, classes, count):
    assert _count(_shapes(create_model(f"segnet/{variant}", classes))["params"]) == count


def test_running_statistics_are_those_of_25_normalisations():
    # pytorch-semseg's 15,914 less 2 * 21 of a normalisation after the last convolution, which the paper has not.
    assert _count(_shapes(create_model("segnet/caffe", 21))["batch_stats"]) == 15_914 - 42


@pytest.mark.parametrize(("fields", "size"), [({}, (13, 18)), (BASIC, (16, 24))], ids=["test-odd", "basic-even"])
def test_equals_torch_with_its_own_pooling_indices(fields, size):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = create_model("segnet/test", 5, **fields)
    images = jax.random.normal(jax.random.key(1), (2, *size, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def as_torch(array):
        return torch.from_numpy(np.array(array, np.float64))

    def conv(x, params):
        kernel = as_torch(params["kernel"]).permute(3, 2, 0, 1)
        bias = as_torch(params["bias"]) if "bias" in params else None
        return functional.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def stack(x, params, relu):
        for name in sorted(params):
            x = functional.batch_norm(conv(x, params[name]["conv"]), None, None, training=True, eps=1e-5)
            x = torch.relu(x) if relu else x
        return x

    params, x, remembered = variables["params"], as_torch(images).permute(0, 3, 1, 2), []
    levels = len(model.depths)
    for level in range(levels):
        x = stack(x, params["encoder"][f"stages_{level}"], relu=True)
        before = x.shape
        x, indices = functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
        remembered.append((indices, before))
    for level in reversed(range(levels)):
        indices, before = remembered[level]
        # Written out: torch's max_unpool2d refuses some odd sizes.
        flat = torch.zeros(*before[:2], before[2] * before[3], dtype=x.dtype)
        x = flat.scatter(2, indices.flatten(2), x.flatten(2)).reshape(before)
        x = stack(x, params.get(f"decoder{level + 1}", {}), relu=model.decoder_relu)
    expected = conv(x, params["classifier"]).permute(0, 2, 3, 1).numpy()

    outputs = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0])(variables, images)
    np.testing.assert_allclose(outputs["logits"].upsample(), expected, rtol=1e-3, atol=1e-3)


def test_biases_before_a_normalisation_get_no_gradient_and_are_the_listed_ones():
    model = create_model("segnet/test", 3, conv_bias=True)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        outputs, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.cos(outputs["logits"].upsample()))

    largest = {
        "/" + "/".join(key.key for key in path): float(jnp.abs(gradient).max())
        for path, gradient in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(variables["params"]))
    }
    zero = {path for path, size in largest.items() if size < 1e-3}
    assert zero == {path for path in largest if re.search(ZERO_GRADIENT["caffe"], path)}
    assert len(zero) == sum(model.depths) * 2 - 1


def test_bayesian_drops_after_the_three_deepest_levels_of_encoder_and_decoder():
    dropped = []

    def record(call, args, kwargs, context):
        if isinstance(context.module, nn.Dropout):
            dropped.append((args[0].shape, context.module.rate))
        return call(*args, **kwargs)

    model = create_model("segnet/bayesian", 3)
    with nn.intercept_methods(record):
        _shapes(model, 32)
    encoder = [(1, 4, 4, 256), (1, 2, 2, 512), (1, 1, 1, 512)]
    decoder = [(1, 2, 2, 512), (1, 4, 4, 256), (1, 8, 8, 128)]
    assert dropped == [(shape, 0.5) for shape in encoder + decoder]


def test_sampling_needs_dropout():
    model = create_model("segnet/test", 3)
    with pytest.raises(ModelError, match="sample=True needs dropout"):
        jax.eval_shape(lambda k: model.init(k, jnp.zeros((1, 8, 8, 3)), sample=True), jax.random.key(0))
