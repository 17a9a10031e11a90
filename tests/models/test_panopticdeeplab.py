"""Panoptic-DeepLab: published counts, what it returns, that every parameter learns, and the reference's names."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.convert.mapping import fill
from segjax.convert.maps import panopticdeeplab as rules
from segjax.core.errors import ModelError, SizeError
from segjax.core.paths import named_leaves
from segjax.core.registry import create_model, resolve
from segjax.models.base import init_shapes
from segjax.ops.logits import Logits, upsampled
from segjax.training.state import init_variables

CLASSES = 5
# Of bowenc0221/panoptic-deeplab at cf8e20b, 19 classes: parameters, statistics.
PUBLISHED = [
    ("resnet50", 55_308_870, 66_112),
    ("resnet101", 74_300_998, 118_336),
    ("mobilenetv2", 7_719_814, 44_544),
]


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, parameters, statistics):
    variables = init_shapes(create_model(f"panopticdeeplab/{variant}", 19))
    assert count(variables["params"]) == parameters
    assert count(variables["batch_stats"]) == statistics


def test_the_papers_decoders_begin_at_stride_8():
    params = init_shapes(create_model("panopticdeeplab/resnet50-os16", 19))["params"]
    shapes = {name: leaf.shape for name, leaf in named_leaves(params).items()}
    for decoder, features, low in (("semantic", 256, (64, 32)), ("instance", 128, (32, 16))):
        children = {name for name in params[f"{decoder}_decoder"] if name != "aspp"}
        assert children == {"low_8", "fuse_8", "low_4", "fuse_4"}
        for stage, width in zip((8, 4), low):
            assert shapes[f"{decoder}_decoder/low_{stage}/conv/kernel"][-1] == width
            assert shapes[f"{decoder}_decoder/fuse_{stage}/depthwise/conv/kernel"][:2] == (5, 5)
            assert shapes[f"{decoder}_decoder/fuse_{stage}/pointwise/conv/kernel"][-1] == features
    assert {name for name in params["semantic_decoder"]["aspp"] if name.startswith("rate")} == {
        "rate_6",
        "rate_12",
        "rate_18",
    }
    assert resolve("panopticdeeplab")[0].task == "panoptic"


class Compiled:
    """The tiny variant's train step on two images, compiled once."""

    def __init__(self):
        self.model = create_model("panopticdeeplab/test", CLASSES)
        # Of a bias of 0 the next normalisation leaves no trace of the scale beside it.
        rng = np.random.default_rng(0)
        self.variables = jax.tree.map(
            lambda leaf: leaf if leaf.any() else rng.normal(scale=0.1, size=leaf.shape).astype(np.float32),
            init_variables(self.model, 0, (32, 48, 3)),
        )
        self.traces = 0
        self.step = jax.jit(self._step)
        self.results = [self.step(self.variables, self.images(seed)) for seed in range(2)]

    def images(self, seed):
        return np.random.default_rng(seed).normal(size=(2, 32, 48, 3)).astype(np.float32)

    def _step(self, variables, images):
        self.traces += 1

        def loss(params):
            given = {**variables, "params": params}
            out, state = self.model.apply(given, images, train=True, mutable=["batch_stats"])
            out = upsampled(out)
            weight = jnp.arange(1.0, 1 + 32 * 48).reshape(32, 48, 1) / (32 * 48)
            return sum((jnp.square(value - 1) * weight).mean() for value in out.values()), (out, state)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@pytest.fixture(scope="module")
def compiled():
    return Compiled()


def test_training_returns_three_maps_and_is_traced_once(compiled):
    (_, (out, state)), _ = compiled.results[0]
    assert {key: value.shape[1:] for key, value in out.items()} == {
        "logits": (32, 48, CLASSES),
        "center": (32, 48, 1),
        "offset": (32, 48, 2),
    }
    assert {value.dtype for value in out.values()} == {jnp.dtype(jnp.float32)}
    assert compiled.traces == 1
    chex.assert_trees_all_equal_shapes(state["batch_stats"], compiled.variables["batch_stats"])


def test_gradient_reaches_every_parameter(compiled):
    gradients = [named_leaves(gradient) for _, gradient in compiled.results]
    silent = [name for name in gradients[0] if max(float(np.abs(one[name]).max()) for one in gradients) < 1e-9]
    assert silent == []


def test_parameters_and_maps_are_float32_in_bfloat16(compiled):
    model = create_model("panopticdeeplab/test", CLASSES, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 32, 48, 3), jnp.float32)
    out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves((out, variables))} == {jnp.dtype(jnp.float32)}
    chex.assert_trees_all_equal_shapes(variables, compiled.variables)


def test_offsets_are_in_pixels_of_the_image():
    model = create_model("panopticdeeplab/test", CLASSES)
    variables = init_variables(model, 0, (32, 48, 3))
    predictor = variables["params"]["offset_head"]["predictor"]
    predictor["kernel"], predictor["bias"] = 0 * predictor["kernel"], np.float32([1.0, -2.0])
    out = model.apply(variables, jnp.zeros((1, 32, 48, 3)))
    assert isinstance(out["offset"], Logits)
    assert out["offset"].values.shape == (1, 8, 12, 2)
    np.testing.assert_allclose(out["offset"].upsample()[0, 17, 21], [4.0, -8.0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(encoder="resnet51"), "encoder 'resnet51' is unknown"),
        (dict(encoder="vit_test"), "has no stage at stride 4"),
        (dict(output_stride=64), "output_stride=64 is impossible"),
    ],
)
def test_an_impossible_encoder_is_one_line_of_error(fields, message):
    with pytest.raises(ModelError, match=message) as caught:
        init_shapes(create_model("panopticdeeplab/test", 5, **fields))
    assert "\n" not in str(caught.value)


def test_a_size_off_the_stride_names_the_size_to_pad_to():
    model = create_model("panopticdeeplab", 19)
    with pytest.raises(SizeError, match=r"1025x2049 .* stride 32: pad to 1056x2080"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1025, 2049, 3)))


def reference_names():
    """Modules of the reference with three steps of its decoders, and a resnet18's of one block a stage."""
    names = ["backbone.conv1", "backbone.bn1"]
    names += [f"backbone.layer{i}.0.{part}{j}" for i in (1, 2, 3, 4) for part in ("conv", "bn") for j in (1, 2)]
    names += [f"backbone.layer4.1.{part}{j}" for part in ("conv", "bn") for j in (1, 2)]
    names += [f"backbone.layer{i}.0.downsample.{j}" for i in (2, 3, 4) for j in (0, 1)]
    separable = ("0.0", "0.1", "1", "2")
    for branch in ("semantic", "instance"):
        around = [f"convs.{i}.{j}" for i in range(3) for j in (0, 1)]
        around += ["convs.4.aspp_pooling.1", "project.0", "project.1"]
        names += [f"decoder.{branch}_decoder.aspp.{name}" for name in around]
        names += [f"decoder.{branch}_decoder.project.{i}.{j}" for i in range(3) for j in (0, 1)]
        names += [f"decoder.{branch}_decoder.fuse.{i}.0.{name}" for i in range(3) for name in separable]
    for head, keys in (("semantic", ("semantic",)), ("instance", ("center", "offset"))):
        for key in keys:
            names += [f"decoder.{head}_head.classifier.{key}.0.0.{name}" for name in separable]
            names += [f"decoder.{head}_head.classifier.{key}.1"]
    return names


def test_every_name_of_the_reference_has_its_own_place():
    model = create_model("panopticdeeplab/test", CLASSES, output_stride=32)
    params = init_shapes(model)["params"]
    modules = {name.rpartition("/")[0] for name in named_leaves(params)}
    found = [rules.rename(name, model) for name in reference_names()]
    assert sorted(found) == sorted(modules)
    assert rules.rename("decoder.semantic_head.classifier.semantic.2", model) is None
    assert rules.rename("decoder.semantic_decoder.aspp.convs.4.1", model) is None


def test_mobilenets_names_go_to_the_encoder():
    model = create_model("panopticdeeplab/mobilenetv2", CLASSES)
    assert rules.rename("backbone.features.0.0", model) == "encoder/stem/conv"
    assert rules.rename("backbone.features.17.conv.2", model) == "encoder/stage7_block1/project/conv"


def test_a_state_dict_fills_the_network():
    model = create_model("panopticdeeplab/test", CLASSES, output_stride=32)
    shapes = named_leaves(init_shapes(model))
    rng = np.random.default_rng(0)
    tensors = {}
    for name in reference_names():
        place = rules.rename(name, model)
        for leaf, ours in (("weight", "kernel"), ("weight", "scale"), ("bias", "bias")):
            if (shape := shapes.get(f"params/{place}/{ours}")) is not None:
                axes = (3, 2, 0, 1) if ours == "kernel" else (0,)
                tensors[f"module.{name}.{leaf}"] = rng.normal(size=shape.shape).astype(np.float32).transpose(axes)
        for leaf, ours in (("running_mean", "mean"), ("running_var", "var")):
            if (shape := shapes.get(f"batch_stats/{place}/{ours}")) is not None:
                tensors[f"module.{name}.{leaf}"] = rng.uniform(size=shape.shape).astype(np.float32)
    variables = fill(model, tensors, "here")
    assert count(variables) == count(init_shapes(model))
    kernel = variables["params"]["offset_head"]["predictor"]["kernel"]
    theirs = tensors["module.decoder.instance_head.classifier.offset.1.weight"]
    np.testing.assert_array_equal(kernel, theirs.transpose(2, 3, 1, 0))
