"""torchvision's MobileNetV2 (`features.0` to `features.18`) and timm's (`conv_stem`, `blocks`, `conv_head`) ->
encoders/mobilenet.py. The last 1x1 convolution is dropped where ours ends before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.inputs import imagenet

MODELS = ("mobilenet",)
DROPPED = (r"^classifier\.",)
INPUT = imagenet("torchvision and timm")

_LAST = r"features\.18\.|conv_head\.|bn2\."
# Of torchvision's block: [[conv, norm], [conv, norm], conv, norm]; the first pair is missing where nothing expands.
_TIMM = {"conv_pw": "expand/conv", "bn1": "expand/norm", "conv_dw": "depthwise/conv", "bn2": "depthwise/norm",
         "conv_pwl": "project/conv", "bn3": "project/norm"}  # fmt: skip
_TIMM_FIRST = {"conv_dw": "depthwise/conv", "bn1": "depthwise/norm", "conv_pw": "project/conv", "bn2": "project/norm"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    return {name: value for name, value in tensors.items() if network.last_conv or not re.match(_LAST, name)}


def rename(name: str, network: Any) -> str | None:
    if name in ("conv_stem", "bn1", "conv_head", "bn2"):
        place = "stem" if name in ("conv_stem", "bn1") else "last"
        return f"{place}/{'norm' if name.startswith('bn') else 'conv'}"
    if found := re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)", name):
        stage = int(found[1])
        inside = (_TIMM_FIRST if network.settings[stage][0] == 1 else _TIMM).get(found[3])
        return inside and f"stage{stage + 1}_block{int(found[2]) + 1}/{inside}"
    if found := re.fullmatch(r"features\.(0|18)\.([01])", name):
        return f"{'stem' if found[1] == '0' else 'last'}/{('conv', 'norm')[int(found[2])]}"
    found = re.fullmatch(r"features\.(\d+)\.conv\.(\d)(?:\.([01]))?", name)
    return block(int(found[1]), int(found[2]), found[3], network) if found else None


def block(index: int, part: int, inner: str | None, network: Any) -> str | None:
    """The place of part `part`, and of its convolution or normalisation `inner`, of block `index` (from 1)."""
    first = 1
    for i, (expansion, _, blocks, _) in enumerate(network.settings):
        if index < first + blocks:
            names = ("depthwise", "project") if expansion == 1 else ("expand", "depthwise", "project")
            if inner is None:
                part, inner = len(names) - 1, part - len(names) + 1
            return f"stage{i + 1}_block{index - first + 1}/{names[part]}/{('conv', 'norm')[int(inner)]}"
        first += blocks
    return None
