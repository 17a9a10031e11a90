"""Maps of whole networks, on their tiny variants: every name of the reference has its own place, and none is left.

Whether the numbers then agree is what benchmarks/layer_exact.py measures at full size.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from segjax.convert.maps import deconvnet, segnet, smp, vainf
from segjax.core.paths import path_name
from segjax.core.registry import create_model
from segjax.models.base import init_shapes

# torchvision's ResNet, as `resnet_test` has it: a basic block a stage, two in the last.
RESNET = ["conv1", "bn1"]
RESNET += [f"layer{i}.0.{part}{j}" for i in (1, 2, 3, 4) for part in ("conv", "bn") for j in (1, 2)]
RESNET += [f"layer{i}.0.downsample.{j}" for i in (2, 3, 4) for j in (0, 1)]
RESNET += [f"layer4.1.{part}{j}" for part in ("conv", "bn") for j in (1, 2)]
AROUND = ["convs.0.0", "convs.0.1", "convs.4.1", "convs.4.2", "project.0", "project.1"]
DENSE, SEPARABLE = ("0", "1"), ("0.0", "0.1", "1")
DEEPLAB = dict(rates=(1, 2, 3), aux_head=False)


def pyramid(prefix, branch):
    return [f"{prefix}.{name}" for name in [*AROUND, *(f"convs.{i}.{part}" for i in (1, 2, 3) for part in branch)]]


def levels(conv, depths):
    return [conv.format(level, place) for level, depth in enumerate(depths, 1) for place in range(1, depth + 1)]


CASES = {
    "segnet": (
        segnet,
        "segnet/test",
        {},
        [
            *(name for part in ("conv", "bn") for name in levels(part + "{}{}", (1, 2, 1))),
            *(name for part in ("conv", "bn") for name in levels(part + "{}{}d", (1, 2, 1)) if name != "bn11d"),
        ],
    ),
    "deconvnet": (
        deconvnet,
        "deconvnet/test",
        {},
        [
            *(f"{name}.{i}" for conv in ("conv{}_{}", "deconv{}_{}") for name in levels(conv, (1, 2)) for i in (0, 1)),
            *(f"{name}.{i}" for name in ("fc6", "fc7", "fc6_deconv") for i in (0, 1)),
            "score_fr",
        ],
    ),
    "vainf": (
        vainf,
        "deeplabv3plus/test",
        dict(separable=False, decoder_convs=1, **DEEPLAB),
        [
            *(f"backbone.{name}" for name in RESNET),
            *pyramid("classifier.aspp", DENSE),
            *(f"classifier.{name}" for name in ("project.0", "project.1")),
            *(f"classifier.classifier.{i}" for i in (0, 1, 3)),
        ],
    ),
    "torchvision": (
        vainf,
        "deeplabv3/test",
        dict(rates=(1, 2, 3)),
        [
            *(f"backbone.{name}" for name in RESNET),
            *pyramid("classifier.0", DENSE),
            *(f"classifier.{i}" for i in (1, 2, 4)),
            *(f"aux_classifier.{i}" for i in (0, 1, 4)),
        ],
    ),
    "smp": (
        smp,
        "deeplabv3plus/test",
        dict(norm_between=False, context_conv=True, decoder_convs=1, **DEEPLAB),
        [
            *(f"encoder.{name}" for name in RESNET),
            *pyramid("decoder.aspp.0", SEPARABLE),
            *(f"decoder.aspp.{name}" for name in ("1.0", "1.1", "2")),
            *(f"decoder.{name}" for name in ("block1.0", "block1.1", "block2.0.0", "block2.0.1", "block2.1")),
            "segmentation_head.0",
        ],
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_module_has_its_place(case):
    rules, name, fields, names = CASES[case]
    model = create_model(name, 5, **fields)
    params = jax.tree_util.tree_leaves_with_path(init_shapes(model)["params"])
    ours = {path_name(path[:-1]) for path, _ in params}
    places = [rules.rename(name, model) for name in names]
    assert len(places) == len(set(places))
    assert set(places) == ours
    assert rules.rename("nothing.0", model) is None


def test_the_decoder_of_vainf_sees_the_joined_features_the_other_way_round():
    model = create_model("deeplabv3plus/test", 5, separable=False, decoder_convs=1, **DEEPLAB)
    joint = np.arange(model.low_features + model.features, dtype=np.float32).reshape(1, -1, 1, 1)
    kernel = vainf.prepare({"classifier.classifier.0.weight": joint}, model)["classifier.classifier.0.weight"]
    assert kernel.ravel().tolist() == [*range(model.low_features, joint.size), *range(model.low_features)]


def test_a_transposed_convolution_of_stride_one_is_mirrored():
    kernel = np.arange(2 * 3 * 9, dtype=np.float32).reshape(2, 3, 3, 3)
    tensors = deconvnet.prepare(
        {"deconv5_1.0.weight": kernel, "conv5_1.0.weight": kernel}, create_model("deconvnet/test", 5)
    )
    np.testing.assert_array_equal(tensors["deconv5_1.0.weight"][2, 1], kernel[1, 2, ::-1, ::-1])
    np.testing.assert_array_equal(tensors["conv5_1.0.weight"], kernel)
