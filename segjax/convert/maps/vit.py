"""timm's and DeiT's ViT -> the encoders vit_b16 and vit_l16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.fused import split_fused
from segjax.convert.inputs import Input, imagenet

MODELS = ("vit",)
# The ImageNet classifier, of the distilled DeiT too.
DROPPED = (r"^head(_dist)?\.", r"^pre_logits\.")
INPUT = {
    "imagenet": imagenet("DeiT, DINO and MAE"),
    "augreg": Input((127.5,) * 3, (127.5,) * 3, source="timm, augreg"),
}

_NAMES = {"patch_embed.proj": "embed", "pos_embed": "position", "cls_token": "class_token", "norm": "norm"}
_BLOCK = {
    "norm1": "norm1",
    "attn.q": "attention/query",
    "attn.k": "attention/key",
    "attn.v": "attention/value",
    "attn.proj": "attention/project",
    "norm2": "norm2",
    "mlp.fc1": "mlp/expand",
    "mlp.fc2": "mlp/contract",
}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    tensors = without_class_token(split_fused(tensors, "qkv", ("q", "k", "v")), network.class_token)
    # What SETR takes from a whole ViT: its blocks, not the normalisation after them.
    unused = () if network.final_norm else ("norm.weight", "norm.bias")
    return {name: value for name, value in tensors.items() if name not in unused}


def without_class_token(tensors: Mapping[str, np.ndarray], wanted: bool, prefix: str = "") -> dict[str, np.ndarray]:
    """The tensors as they are; if the token is not wanted, without it and the first row of the position embedding."""
    tensors = dict(tensors)
    if not wanted and tensors.pop(f"{prefix}cls_token", None) is not None:
        tensors[f"{prefix}pos_embed"] = tensors[f"{prefix}pos_embed"][:, 1:]
    return tensors


def rename(name: str, network: Any) -> str | None:
    if name in _NAMES:
        return _NAMES[name]
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    if found is None or found[2] not in _BLOCK:
        return None
    return f"block{int(found[1]) + 1}/{_BLOCK[found[2]]}"
