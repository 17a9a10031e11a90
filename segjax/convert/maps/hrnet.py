"""HRNet/HRNet-Semantic-Segmentation -> hrnet and, by its names, encoders/hrnet.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.bias import fold_biases
from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block

MODELS = ("hrnet",)
DROPPED = (r"^(incre_modules|downsamp_modules|final_layer|classifier)\.",)  # the image classifier's head
INPUT = imagenet("HRNet/HRNet-Semantic-Segmentation", "Cityscapes whole, long side 2048")

_HEAD = {"0": "join/conv", "1": "join/norm", "3": "classifier"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    pairs = {} if getattr(network, "conv_bias", True) else {"last_layer.0": "last_layer.1"}
    return fold_biases(tensors, pairs)


def rename(name: str, network: Any) -> str | None:
    if name.startswith("last_layer."):
        return _HEAD.get(name.removeprefix("last_layer."))
    place = encoder(name)
    return place and (f"encoder/{place}" if hasattr(network, "encoder") else place)


def encoder(name: str) -> str | None:
    """`stage3.1.fuse_layers.2.0.1.0` -> `stage3_module2/fuse_1_to_3_conv2/conv`."""
    if found := re.fullmatch(r"(conv|bn)([12])", name):
        return f"stem{found[2]}/{'conv' if found[1] == 'conv' else 'norm'}"
    if name.startswith("layer1."):
        return block(name)
    if found := re.fullmatch(r"transition(\d)\.(\d)\.(?:0\.)?([01])", name):
        return f"transition{int(found[1]) + 1}_branch{int(found[2]) + 1}/{_part(found[3])}"
    if found := re.fullmatch(r"stage(\d)\.(\d)\.branches\.(\d)\.(\d)\.(conv|bn)([12])", name):
        stage, module, branch, index = found[1], *(int(n) + 1 for n in found.groups()[1:4])
        part = f"conv{found[6]}/{'conv' if found[5] == 'conv' else 'norm'}"
        return f"stage{stage}_module{module}/branch{branch}_block{index}/{part}"
    if found := re.fullmatch(r"stage(\d)\.(\d)\.fuse_layers\.(\d)\.(\d)\.(?:(\d)\.)?([01])", name):
        module, to, start = (int(n) + 1 for n in found.groups()[1:4])
        link = f"_conv{int(found[5]) + 1}" if found[5] else ""
        return f"stage{found[1]}_module{module}/fuse_{start}_to_{to}{link}/{_part(found[6])}"
    return None


def _part(index: str) -> str:
    return ("conv", "norm")[int(index)]
