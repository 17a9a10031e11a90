"""ycszen/TorchSeg, `voc.dfn.R101_v1c` and `cityscapes.dfn.R101_v1c` -> dfn/resnet101."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps import resnet

MODELS = ("dfn",)
DROPPED = (r"^border_aft_rrbs\.0\.",)  # built, never called
INPUT = imagenet("ycszen/TorchSeg")

_SMOOTH, _BORDER = (32, 16, 8, 4), (4, 8, 16, 32)
_LISTS = {
    "smooth_pre_rrbs": (_SMOOTH, "smooth{}_in"),
    "smooth_aft_rrbs": (_SMOOTH, "smooth{}_out"),
    "smooth_heads": (_SMOOTH, "head{}"),
    "cabs": (_SMOOTH, "attention{}"),
    "border_pre_rrbs": (_BORDER, "border{}_in"),
    "border_aft_rrbs": (_BORDER, "border{}_out"),
    "border_heads": (_BORDER, "border_head{}"),
}
_REFINE = {"conv_1x1": "thin", "cbr.conv": "conv/conv", "cbr.bn": "conv/norm", "conv_refine": "refine"}
_INNER = {
    **{name: f"/{place}" for name, place in _REFINE.items()},
    **{f"rrb.{name}": f"_refine/{place}" for name, place in _REFINE.items()},
    "conv": "_classifier",
    "channel_attention.fc.0": "/gate1",
    "channel_attention.fc.2": "/gate2",
}


def rename(name: str, network: Any) -> str | None:
    if name.startswith("backbone."):
        inner = name.removeprefix("backbone.")
        place = resnet.stem(inner, "wide") or resnet.block(inner)
        return place and f"encoder/{place}"
    if found := re.fullmatch(r"global_context\.1\.(conv|bn)", name):
        return {"conv": "mean/conv", "bn": "mean/norm"}[found[1]]
    found = re.fullmatch(r"(\w+)\.(\d)\.(.+)", name)
    if found is None or found[1] not in _LISTS or found[3] not in _INNER:
        return None
    strides, place = _LISTS[found[1]]
    return place.format(strides[int(found[2])]) + _INNER[found[3]]
