"""fudan-zvg/SETR -> setr, every decoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.fused import split_fused
from segjax.convert.inputs import imagenet
from segjax.convert.maps import vit

MODELS = ("setr",)
# A classifier that never runs, in each head.
DROPPED = (r"_head\.(\d+\.)?conv_seg\.",)
INPUT = imagenet("fudan-zvg/SETR", "windows of 768 or 512")


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    split = split_fused(tensors, "qkv", ("q", "k", "v"))
    return vit.without_class_token(split, network.decoder != "mla", "backbone.")


def rename(name: str, network: Any) -> str | None:
    if name.startswith("backbone."):
        inner = name.removeprefix("backbone.")
        place = vit.rename(inner, network)
        return f"encoder/{place}" if place else _neck(inner, network)
    if found := re.fullmatch(r"auxiliary_head\.(\d)\.(.+)", name):
        head = f"aux{network.blocks[int(found[1])]}"
        return head if found[2] == "aux" else _up_head(found[2], head, network, last=1)
    if not name.startswith("decode_head."):
        return None
    inner = name.removeprefix("decode_head.")
    if inner == "cls":
        return "classifier"
    if found := re.fullmatch(r"mlahead\.head(\d)\.([0134])", inner):
        part = ("conv", "norm")[int(found[2]) % 3]
        return f"branch{network.blocks[int(found[1]) - 2]}_conv{int(found[2]) // 3 + 1}/{part}"
    return _up_head(inner, "head", network, last=4 if network.decoder == "pup" else 1)


def _up_head(name: str, head: str, network: Any, last: int) -> str | None:
    if name == "norm":
        return f"{head}/norm"
    found = re.fullmatch(r"(conv|syncbn_fc)_(\d)", name)
    if found is None:
        return None
    index = int(found[2])
    if found[1] == "conv" and index == last:
        return f"{head}/classifier"
    return f"{head}/conv{index + 1}/{'conv' if found[1] == 'conv' else 'norm'}"


def _neck(name: str, network: Any) -> str | None:
    """Multi-level aggregation, which is part of their backbone."""
    if found := re.fullmatch(r"norm_(\d)", name):
        return f"norm{network.blocks[int(found[1])]}"
    found = re.fullmatch(r"mla\.mla_p(\d)(_1x1)?\.([01])", name)
    if found is None:
        return None
    kind = "lateral" if found[2] else "level"
    return f"{kind}{network.blocks[int(found[1]) - 2]}/{('conv', 'norm')[int(found[3])]}"
