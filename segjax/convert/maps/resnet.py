"""torchvision's ResNet -> encoders/resnet.py; its names with the deep stem as in mmsegmentation and timm."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet

MODELS = ("resnet",)
DROPPED = (r"^fc\.",)
INPUT = imagenet("torchvision and timm")

_INDEXED = {0: "stem1/conv", 1: "stem1/norm", 3: "stem2/conv", 4: "stem2/norm", 6: "stem3/conv", 7: "stem3/norm"}


def rename(name: str, network: Any) -> str | None:
    return stem(name, network.stem) or block(name)


def stem(name: str, kind: str) -> str | None:
    """`conv1` and `bn1`, or a deep stem's `conv1.0` to `conv1.6` and `bn1`, or `stem.0` to `stem.7`."""
    if kind == "7x7":
        return {"conv1": "stem/conv", "bn1": "stem/norm"}.get(name)
    if name == "bn1":
        return "stem3/norm"
    found = re.fullmatch(r"(?:conv1|stem)\.(\d)", name)
    return _INDEXED.get(int(found[1])) if found else None


def numbered_stem(name: str) -> str | None:
    """A deep stem's `conv1`, `bn1` to `conv3`, `bn3`, as in hszhao/semseg."""
    found = re.fullmatch(r"(conv|bn)([123])", name)
    return f"stem{found[2]}/{_kind(found[1])}" if found else None


def indexed_stem(name: str, kind: str) -> str | None:
    """A stem as one nn.Sequential: `0`, `1`, and of a deep one `3`, `4`, `6`, `7`."""
    if kind == "7x7":
        return {"0": "stem/conv", "1": "stem/norm"}.get(name)
    return _INDEXED.get(int(name)) if name.isdecimal() else None


def block(name: str) -> str | None:
    """`layer1.0.conv1` -> `stage1_block1/conv1/conv`."""
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))", name)
    if not found:
        return None
    place = f"conv{found[4]}/{_kind(found[3])}" if found[3] else f"shortcut/{('conv', 'norm')[int(found[5])]}"
    return f"stage{found[1]}_block{int(found[2]) + 1}/{place}"


def _kind(name: str) -> str:
    return "conv" if name == "conv" else "norm"
