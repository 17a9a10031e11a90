"""4uiiurz1/pytorch-nested-unet, `NestedUNet` -> unetpp."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input
from segjax.core.schema import IMAGENET_MEAN, IMAGENET_STD

MODELS = ("unetpp",)
INPUT = Input(  # the statistics of RGB, given to BGR, and divided by 255 once more
    IMAGENET_MEAN,
    tuple(255 * std for std in IMAGENET_STD),
    "bgr",
    source="4uiiurz1/pytorch-nested-unet",
    sizes="96x96",
)


def rename(name: str, network: Any) -> str | None:
    if found := re.fullmatch(r"final(\d?)", name):
        return f"classifier{found[1] or len(network.widths) - 1}"
    found = re.fullmatch(r"conv(\d)_(\d)\.(conv|bn)([12])", name)
    return found and f"node{found[1]}_{found[2]}/conv{found[4]}/{'conv' if found[3] == 'conv' else 'norm'}"
