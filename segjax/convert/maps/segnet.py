"""delta-onera/segnet_pytorch, `SegNet(channels, classes)` -> segnet/vgg16, and segnet/caffe, which has its biases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.bias import fold_biases

MODELS = ("segnet",)
INPUT = None  # the repository publishes no weights and does not normalise


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    if network.conv_bias:
        return dict(tensors)
    convs = [name.removesuffix(".bias") for name in tensors if re.match(r"conv.+\.bias$", name)]
    return fold_biases(tensors, {conv: conv.replace("conv", "bn") for conv in convs})


def rename(name: str, network: Any) -> str | None:
    if name == "conv11d":
        return "classifier"
    found = re.fullmatch(r"(conv|bn)(\d)(\d)(d?)", name)
    if found is None or not 1 <= int(found[2]) <= len(network.depths):
        return None
    level, place, kind = int(found[2]), int(found[3]), "conv" if found[1] == "conv" else "norm"
    if not found[4]:
        return f"encoder/stages_{level - 1}/conv{place}/{kind}"
    # The decoder counts down, as its layers mirror the encoder's.
    return f"decoder{level}/conv{network.depths[level - 1] - place + 1}/{kind}"
