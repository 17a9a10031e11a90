"""The maps of encoders, by the names that torchvision and timm give their modules."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from segjax.convert.maps import densenet, mobilenet, vgg, xception
from segjax.core.paths import named_leaves
from segjax.models.encoders import create_encoder

# Indices of torchvision's convolutions in `features`.
VGG16 = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
VGG16_BN = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
# torchvision's blocks of MobileNetV2: how many a stage has.
BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def modules(encoder):
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    params = jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
    return {name.rpartition("/")[0] for name in named_leaves(params)}


@pytest.mark.parametrize(("name", "indices"), [("vgg16", VGG16_BN), ("vgg16_plain", VGG16)])
def test_vgg(name, indices):
    encoder = create_encoder(name)
    names = [f"features.{index + step}" for index in indices for step in range(1 + encoder.norm)]
    assert {vgg.rename(module, encoder) for module in names} == modules(encoder)
    assert vgg.rename("features.1" if name == "vgg16_plain" else "features.2", encoder) is None


def test_vgg_leaves_out_what_ours_has_not():
    encoder = create_encoder("vgg16")
    tensors = {
        "features.0.bias": np.ones(2),
        "features.1.running_mean": np.full(2, 3.0),
        "classifier.0.weight": np.ones(2),
    }
    prepared = vgg.prepare(tensors, encoder)
    assert list(prepared) == ["features.1.running_mean"]
    np.testing.assert_array_equal(prepared["features.1.running_mean"], [2.0, 2.0])


def test_densenet():
    encoder = create_encoder("densenet_test")
    names = [f"features.{name}" for name in ("conv0", "norm0", "norm5")]
    names += [f"features.transition{i}.{part}" for i in (1, 2, 3) for part in ("conv", "norm")]
    for i, layers in enumerate((1, 1, 2, 1), start=1):
        places = [f"features.denseblock{i}.denselayer{j}" for j in range(1, layers + 1)]
        names += [f"{place}.{part}{k}" for place in places for part in ("norm", "conv") for k in (1, 2)]
    assert {densenet.rename(name, encoder) for name in names} == modules(encoder)


def test_xception():
    encoder = create_encoder("xception_test", 32)  # one module at stride 16
    names = [f"stem.{i}.{part}" for i in (0, 1) for part in ("conv", "bn")]
    names += [f"blocks.{i}.shortcut.{part}" for i in (0, 1, 2, 4) for part in ("conv", "bn")]
    parts = ("conv_dw", "bn_dw", "conv_pw", "bn_pw")
    names += [f"blocks.{i}.stack.conv{j}.{part}" for i in range(6) for j in (1, 2, 3) for part in parts]
    places = [xception.rename(name, encoder) for name in names]
    assert len(places) == len(set(places))
    assert set(places) == modules(encoder)


@pytest.mark.parametrize("last", [False, True])
def test_mobilenet_by_torchvision(last):
    encoder = create_encoder("mobilenetv2", last_conv=last)
    names = ["features.0.0", "features.0.1", "features.18.0", "features.18.1"]
    names += ["features.1.conv." + part for part in ("0.0", "0.1", "1", "2")]
    names += [f"features.{i}.conv.{part}" for i in range(2, 18) for part in ("0.0", "0.1", "1.0", "1.1", "2", "3")]
    check(encoder, names)


@pytest.mark.parametrize("last", [False, True])
def test_mobilenet_by_timm(last):
    encoder = create_encoder("mobilenetv2", last_conv=last)
    names = ["conv_stem", "bn1", "conv_head", "bn2"]
    names += [f"blocks.0.0.{part}" for part in ("conv_dw", "bn1", "conv_pw", "bn2")]
    for stage, blocks in list(enumerate(BLOCKS))[1:]:
        for block in range(blocks):
            parts = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
            names += [f"blocks.{stage}.{block}.{part}" for part in parts]
    check(encoder, names)


def check(encoder, names):
    kept = mobilenet.prepare({f"{name}.weight": np.ones(1) for name in names}, encoder)
    places = [mobilenet.rename(re.sub(r"\.weight$", "", name), encoder) for name in kept]
    assert len(places) == len(set(places))
    assert set(places) == modules(encoder)
