"""bowenc0221/panoptic-deeplab, with ResNet or MobileNetV2 -> panopticdeeplab."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps import mobilenet, resnet
from segjax.models.encoders import create_encoder

MODELS = ("panopticdeeplab",)
INPUT = imagenet("bowenc0221/panoptic-deeplab", "Cityscapes whole, padded to 1025x2049")

_PAIR = {"0": "conv", "1": "norm"}
_SEPARABLE = {
    "0.0": "depthwise/conv",
    "0.1": "depthwise/norm",
    "1": "pointwise/conv",
    "2": "pointwise/norm",
}


def rename(name: str, network: Any) -> str | None:
    part, _, rest = name.partition(".")
    if part == "backbone":
        rules = mobilenet if rest.startswith("features.") else resnet
        place = rules.rename(rest, create_encoder(network.encoder))
        return place and f"encoder/{place}"
    found = re.fullmatch(r"(?:semantic|instance)_head\.classifier\.(\w+)\.(?:1|0\.0\.([\d.]+))", rest)
    if found:
        return f"{found[1]}_head/{f'conv/{_SEPARABLE[found[2]]}' if found[2] else 'predictor'}"
    found = re.fullmatch(r"(semantic|instance)_decoder\.(aspp|project|fuse)\.(.+)", rest)
    if not found:
        return None
    place = pyramid(found[3], network) if found[2] == "aspp" else step(found[2], found[3], network)
    return place and f"{found[1]}_decoder/{place}"


def step(kind: str, name: str, network: Any) -> str | None:
    """`project.0.1` and `fuse.0.0.0.1`: of the first stage joined, the coarsest."""
    index, _, inner = name.partition(".")
    stage = [stage for stage in (16, 8, 4) if stage < network.output_stride][int(index)]
    return f"low_{stage}/{_PAIR[inner]}" if kind == "project" else f"fuse_{stage}/{_SEPARABLE[inner.partition('.')[2]]}"


def pyramid(name: str, network: Any) -> str | None:
    if name == "convs.4.aspp_pooling.1":
        return "aspp/pool/conv"
    found = re.fullmatch(r"(?:convs\.([0-3])|(project))\.([01])", name)
    if not found:
        return None
    rates = network.rates or tuple(96 // network.output_stride * i for i in (1, 2, 3))
    branch = "project" if found[2] else ("point", *(f"rate_{rate}" for rate in rates))[int(found[1])]
    return f"aspp/{branch}/{_PAIR[found[3]]}"
