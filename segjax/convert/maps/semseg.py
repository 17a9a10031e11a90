"""hszhao/semseg, `PSPNet(layers)` -> pspnet/resnet50, 101, 152."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, indexed_stem

MODELS = ("pspnet",)
INPUT = imagenet(
    "hszhao/semseg",
    "long side 512 (ADE20K, VOC) or 2048 (Cityscapes), mirrored, in windows of 473 or 713 with a third of overlap",
)

_HEAD = {"0": "conv/conv", "1": "conv/norm", "4": "classifier"}


def rename(name: str, network: Any) -> str | None:
    group, _, rest = name.partition(".")
    if group == "layer0" or re.fullmatch(r"layer\d", group):
        place = indexed_stem(rest, "wide") if group == "layer0" else block(name)
        return place and f"encoder/{place}"
    if group in ("cls", "aux") and rest in _HEAD:
        return f"{'head' if group == 'cls' else 'aux_head'}/{_HEAD[rest]}"
    if found := re.fullmatch(r"ppm\.features\.(\d)\.([12])", name):
        return f"pyramid/bins_{network.bins[int(found[1])]}/{('conv', 'norm')[int(found[2]) - 1]}"
    return None
