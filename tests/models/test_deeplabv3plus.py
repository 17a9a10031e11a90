from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError, SizeError
from segjax.core.registry import create_model

# Trainable parameters and running statistics of other people's implementations (the module's docstring names them).
PUBLISHED = [
    ("resnet101", 21, dict(separable=False), 59_344_309, 109_536),
    ("resnet50", 21, dict(separable=False, decoder_convs=1), 39_761_845, 56_800),
    ("mobilenetv2", 21, dict(separable=False, decoder_convs=1), 5_225_717, 35_232),
    ("resnet50-smp", 1, {}, 26_677_585, 57_312),
    ("resnet34-smp", 1, {}, 22_437_457, 21_216),
    # The resnet34 layout with torchvision's resnet18 (less its classifier) in the place of its resnet34.
    ("resnet34-smp", 1, dict(encoder="resnet18"), 22_437_457 - 21_284_672 + 11_176_512, None),
    ("resnet50-mmseg", 19, {}, 43_589_878, 76_480),
    ("resnet101-mmseg", 19, {}, 62_582_006, 128_704),
]


def _init(model, height=64, width=64):
    images = jax.ShapeDtypeStruct((1, height, width, model.in_channels), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x), jax.random.key(0), images)


def _apply(model, train, height=64, width=96):
    images = jax.ShapeDtypeStruct((2, height, width, model.in_channels), jnp.float32)

    def run(key, images):
        outputs, variables = model.init_with_output(key, images)
        del outputs
        rngs = {"dropout": key}
        return model.apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"])[0]

    return jax.eval_shape(run, jax.random.key(0), images)


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "classes", "fields", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, classes, fields, parameters, statistics):
    variables = _init(create_model(f"deeplabv3plus/{variant}", classes, **fields))
    assert _count(variables["params"]) == parameters
    if statistics is not None:
        assert _count(variables["batch_stats"]) == statistics


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("encoder", ["resnet18", "resnet50", "mobilenetv2", "vgg16"])
def test_logits_have_the_images_size_whatever_the_encoder(encoder, output_stride):
    model = create_model("deeplabv3plus/test", 5, encoder=encoder, output_stride=output_stride, dtype=jnp.bfloat16)
    logits = _apply(model, train=False)["logits"]
    assert logits.shape == (2, 64, 96, 5)
    assert logits.values.dtype == jnp.float32


@pytest.mark.parametrize(("output_stride", "rates"), [(8, (12, 24, 36)), (16, (6, 12, 18)), (32, (3, 6, 9))])
def test_default_rates_reach_equally_far_in_the_image(output_stride, rates):
    model = create_model("deeplabv3plus/test", 5, output_stride=output_stride, rates=())
    names = {name for name in _init(model)["params"]["aspp"] if name.startswith("rate_")}
    assert names == {f"rate_{rate}" for rate in rates}


def test_the_auxiliary_head_answers_in_training_only_and_always_has_parameters():
    model = create_model("deeplabv3plus/test", 5)
    training, evaluation = _apply(model, train=True), _apply(model, train=False)
    assert [head.shape for head in training["aux_logits"]] == [(2, 64, 96, 5)]
    assert training["aux_logits"][0].values.dtype == jnp.float32
    assert "aux_logits" not in evaluation
    assert {"aux_conv", "aux_classifier"} <= _init(model)["params"].keys()
    without = create_model("deeplabv3plus/test", 5, aux_head=False)
    assert not {"aux_conv", "aux_classifier"} & _init(without)["params"].keys()
    assert "aux_logits" not in _apply(without, train=True)


def test_a_size_off_the_output_stride_names_the_size_to_pad_to():
    model = create_model("deeplabv3plus/test", 5)
    with pytest.raises(SizeError, match=r"40x48 .* stride 16: pad to 48x48"):
        _init(model, 40, 48)
    finer = create_model("deeplabv3plus/test", 5, output_stride=8)
    assert _apply(finer, False, 40, 48)["logits"].shape == (2, 40, 48, 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(encoder="resnet51"), "encoder 'resnet51' is unknown"),
        (dict(encoder="mobilenetv2", encoder_options=dict(stem="deep")), "'mobilenetv2' has no field 'stem'"),
        (dict(output_stride=64), "output_stride=64 is impossible"),
    ],
)
def test_an_impossible_encoder_is_one_line_of_error(fields, message):
    with pytest.raises(ModelError, match=message):
        _init(create_model("deeplabv3plus/test", 5, **fields))
