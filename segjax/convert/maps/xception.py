"""timm's `xception65` -> encoders/xception.py."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("xception",)
DROPPED = (r"^head\.fc\.",)
INPUT = Input((127.5,) * 3, (127.5,) * 3, source="timm, xception65")

_ENTRY = 3  # modules before those at stride 16
_PARTS = {
    "conv_dw": "depthwise/conv",
    "bn_dw": "depthwise/norm",
    "conv_pw": "pointwise/conv",
    "bn_pw": "pointwise/norm",
}
_KINDS = {"conv": "conv", "bn": "norm"}


def rename(name: str, network: Any) -> str | None:
    if found := re.fullmatch(r"stem\.([01])\.(conv|bn)", name):
        return f"stem{int(found[1]) + 1}/{_KINDS[found[2]]}"
    found = re.fullmatch(r"blocks\.(\d+)\.(?:shortcut\.(conv|bn)|stack\.conv(\d)\.(\w+))", name)
    if found is None:
        return None
    index, end = int(found[1]), _ENTRY + network.middle
    if index > end:
        return f"last{found[3]}/{_PARTS[found[4]]}"
    module = "exit" if index == end else f"entry{index + 1}" if index < _ENTRY else f"middle{index - _ENTRY + 1}"
    return f"{module}/shortcut/{_KINDS[found[2]]}" if found[2] else f"{module}/conv{found[3]}/{_PARTS[found[4]]}"
