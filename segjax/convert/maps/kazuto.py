"""kazuto1011/deeplab-pytorch, `DeepLabV3(...)` -> deeplabv3/resnet50-caffe, resnet101-caffe; `DeepLabV2(...)` and
`MSC(DeepLabV2(...))` -> deeplabv2/resnet101-single, resnet101."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("deeplabv2", "deeplabv3")
INPUT = Input(
    (104.008, 116.669, 122.675),
    (1.0,) * 3,
    "bgr",
    source="kazuto1011/deeplab-pytorch",
    sizes="VOC whole, padded to 513x513",
)

_CONVS = {"reduce": "conv1", "conv3x3": "conv2", "increase": "conv3", "shortcut": "shortcut"}


def rename(name: str, network: Any) -> str | None:
    name = name.removeprefix("base.")
    if found := re.fullmatch(r"aspp\.c(\d)", name):
        return f"aspp_{network.rates[int(found[1])]}"
    if name == "fc2":
        return "classifier"
    found = re.fullmatch(r"(.+)\.(conv|bn)", name)
    place = found and _place(found[1], network)
    return f"{place}/{'conv' if found[2] == 'conv' else 'norm'}" if place else None


def _place(name: str, network: Any) -> str | None:
    """Of a convolution and its normalisation."""
    if found := re.fullmatch(r"layer(\d)\.block(\d+)\.(\w+)", name):
        conv = _CONVS.get(found[3])
        return conv and f"encoder/stage{int(found[1]) - 1}_block{found[2]}/{conv}"
    if found := re.fullmatch(r"aspp\.stages\.c(\d)", name):
        return f"aspp/rate_{pyramid_rates(network)[int(found[1]) - 1]}" if found[1] != "0" else "aspp/point"
    others = {
        "layer1.conv1": "encoder/stem",
        "aspp.stages.imagepool.conv": "aspp/pool/conv_norm",
        "fc1": "aspp/project",
    }
    return others.get(name)


def pyramid_rates(network: Any) -> tuple[int, ...]:
    """Of the atrous pyramid of DeepLab v3 and v3+: those given, or what their output stride gives."""
    return network.rates or tuple(96 // network.output_stride * i for i in (1, 2, 3))
