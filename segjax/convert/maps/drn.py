"""fyu/drn: `DRNSeg` -> drn, the classifiers of drn.py -> encoders/drn.py."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input, imagenet
from segjax.convert.maps.resnet import block

MODELS = ("drn",)
# The fixed upsampling, the classifier, and the projection of a shortcut that level 7 never adds.
DROPPED = (r"^up\.weight$", r"^fc\.", r"^(base\.9|layer7)\.0\.downsample\.")
INPUT = {
    "imagenet": imagenet("fyu/drn, classifiers"),
    "cityscapes": Input((73.98, 83.66, 73.18), (46.65, 47.57, 47.04), source="fyu/drn, Cityscapes (info.json)"),
}


def rename(name: str, network: Any) -> str | None:
    if name == "seg":
        return "classifier"
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        return _level(name, network.residual_start)
    found = re.fullmatch(r"base\.(\d+)(.*)", name)
    if found is None:
        return None
    index, rest = int(found[1]), found[2]
    if encoder.startswith("resnet"):
        place = {0: "stem/conv", 1: "stem/norm"}.get(index) or block(f"layer{index - 3}{rest}")
    elif "_c_" in encoder:
        place = _level({0: "conv1", 1: "bn1"}.get(index, f"layer{index - 2}{rest}"), True)
    else:
        place = _level(f"layer{index}{rest}", False)
    return place and f"encoder/{place}"


def _level(name: str, residual_start: bool) -> str | None:
    """`layer7.3` -> `level7_conv2/conv`; `layer3.0.conv1` -> `level3_block1/conv1/conv`."""
    if name in ("conv1", "layer0.0", "bn1", "layer0.1"):
        return f"stem/{'conv' if name in ('conv1', 'layer0.0') else 'norm'}"
    if found := re.fullmatch(r"layer([1278])\.(\d)", name):
        return f"level{found[1]}_conv{int(found[2]) // 3 + 1}/{('conv', 'norm')[int(found[2]) % 3]}"
    if residual_start and (found := re.fullmatch(r"layer([78])\.(\d)\.(conv|bn)([12])", name)):
        number = 2 * int(found[2]) + int(found[4])
        return f"level{found[1]}_conv{number}/{'conv' if found[3] == 'conv' else 'norm'}"
    place = block(name)
    return place and place.replace("stage", "level", 1)
