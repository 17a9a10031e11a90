"""torchvision's VGG, with batch normalisation or without (timm's names of the convolutions are the same) ->
encoders/vgg.py. The fully connected layers are dropped where ours has none, and the last one always."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from segjax.convert.bias import fold_biases
from segjax.convert.inputs import Input, imagenet

MODELS = ("vgg",)
INPUT = {
    "imagenet": imagenet("torchvision and timm"),
    "caffe": Input((123.0, 117.0, 104.0), (1.0,) * 3, source="torchvision, VGG16 IMAGENET1K_FEATURES"),
}

_FULLY_CONNECTED = {"classifier.0": "fc6", "pre_logits.fc1": "fc6", "classifier.3": "fc7", "pre_logits.fc2": "fc7"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    kept = set() if network.fc is None else set(_FULLY_CONNECTED)
    tensors = {
        name: value
        for name, value in tensors.items()
        if name.startswith("features.") or name.rpartition(".")[0] in kept
    }
    if network.norm and not network.conv_bias:
        pairs = {f"features.{index}": f"features.{index + 1}" for index, _, _ in _convolutions(network)}
        tensors = fold_biases(tensors, pairs)
    return tensors


def rename(name: str, network: Any) -> str | None:
    if name in _FULLY_CONNECTED:
        return None if network.fc is None else f"fully_connected/{_FULLY_CONNECTED[name]}"
    for index, stage, place in _convolutions(network):
        path = f"stages_{stage}/conv{place}"
        if name == f"features.{index}":
            return f"{path}/conv" if network.norm else path
        if name == f"features.{index + 1}" and network.norm:
            return f"{path}/norm"
    return None


def _convolutions(network: Any) -> Iterator[tuple[int, int, int]]:
    """Of each: its index in `features`, our stage, and its place there from 1."""
    index = 0
    for stage, depth in enumerate(network.depths):
        for place in range(depth):
            yield index, stage, place + 1
            index += 3 if network.norm else 2
        index += 1
