"""VainF/DeepLabV3Plus-Pytorch, `deeplabv3plus_resnet*` -> deeplabv3plus with separable=False and decoder_convs=1;
torchvision's `deeplabv3_resnet*`, and VainF's, which has no auxiliary head -> deeplabv3/*-torchvision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.inputs import imagenet
from segjax.convert.maps.kazuto import pyramid_rates
from segjax.convert.maps.resnet import block, stem

MODELS = ("deeplabv3", "deeplabv3plus")
INPUT = imagenet(
    "torchvision and VainF/DeepLabV3Plus-Pytorch", "torchvision: short side 520; VainF: VOC at 513, Cityscapes whole"
)

_DENSE = {"0": "conv", "1": "norm"}
_AROUND = {
    "convs.0.0": "point/conv",
    "convs.0.1": "point/norm",
    "convs.4.1": "pool/conv_norm/conv",
    "convs.4.2": "pool/conv_norm/norm",
    "project.0": "project/conv",
    "project.1": "project/norm",
}
_HEADS = {
    "DeepLabV3": {"1": "context/conv", "2": "context/norm", "4": "classifier"},
    "DeepLabV3Plus": {"0": "decoder1/conv", "1": "decoder1/norm", "3": "classifier"},
}
_AUXILIARY = {"0": "conv/conv", "1": "conv/norm", "4": "classifier"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    """DeepLabV3+ joins the stage at stride 4 before the pyramid's result, ours behind it."""
    tensors, joint = dict(tensors), "classifier.classifier.0.weight"
    if type(network).__name__ == "DeepLabV3Plus" and joint in tensors:
        tensors[joint] = np.roll(tensors[joint], -network.low_features, axis=1)
    return tensors


def rename(name: str, network: Any) -> str | None:
    part, _, rest = name.partition(".")
    if part == "backbone":
        place = stem(rest, "7x7") or block(rest)
        return place and f"encoder/{place}"
    if part == "aux_classifier" and rest in _AUXILIARY:
        return f"aux_head/{_AUXILIARY[rest]}"
    if part != "classifier":
        return None
    rest = rest.removeprefix("classifier.")
    if place := _HEADS[type(network).__name__].get(rest):
        return place
    if found := re.fullmatch(r"project\.([01])", rest):
        return f"low/{_DENSE[found[1]]}"
    found = re.fullmatch(r"(?:0|aspp)\.(.+)", rest)
    return pyramid(found[1], network) if found else None


def pyramid(name: str, network: Any, branch: Mapping[str, str] = _DENSE) -> str | None:
    """Of atrous spatial pyramid pooling as torchvision has it; `branch`: of each 3x3 convolution."""
    if name in _AROUND:
        return f"aspp/{_AROUND[name]}"
    found = re.fullmatch(r"convs\.([123])\.(.+)", name)
    if found is None or found[2] not in branch:
        return None
    return f"aspp/rate_{pyramid_rates(network)[int(found[1]) - 1]}/{branch[found[2]]}"
