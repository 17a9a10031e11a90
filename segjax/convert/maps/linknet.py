"""e-lab/pytorch-linknet, `LinkNet` -> linknet."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input
from segjax.convert.maps import resnet

MODELS = ("linknet",)
# The deviations and means of BGR, given to RGB.
INPUT = Input((103.53, 116.28, 123.675), (57.375, 57.12, 58.395), source="e-lab/pytorch-linknet", sizes="512x1024")

_CHILDREN = {"conv1": "reduce", "tp_conv": "up", "conv2": "expand"}
_LAST = {"tp_conv1": "last_up", "conv2": "last_conv"}


def rename(name: str, network: Any) -> str | None:
    if name == "tp_conv2":
        return "logits"
    if found := re.fullmatch(r"in_block\.([01])", name):
        return f"encoder/stem/{('conv', 'norm')[int(found[1])]}"
    if found := re.fullmatch(r"encoder(\d\..+)", name):
        inner = resnet.block(f"layer{found[1]}")
        return inner and f"encoder/{inner}"
    found = re.fullmatch(r"(?:(decoder\d)\.)?(tp_conv1?|conv[12])\.([01])", name)
    children = _CHILDREN if found and found[1] else _LAST
    if found is None or found[2] not in children:
        return None
    place = f"{found[1]}/{children[found[2]]}" if found[1] else children[found[2]]
    convolution = "up" if place.endswith("up") else "conv"
    return f"{place}/{(convolution, 'norm')[int(found[3])]}"
