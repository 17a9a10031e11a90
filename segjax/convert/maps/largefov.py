"""wangleihitcs/DeepLab-V1-PyTorch, `VGG16_LargeFOV` -> deeplabv1/largefov."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("deeplabv1",)
INPUT = Input((104.008, 116.669, 122.675), (1.0,) * 3, "bgr", source="wangleihitcs/DeepLab-V1-PyTorch")

_HEAD = {32: "encoder/fully_connected/fc6", 35: "encoder/fully_connected/fc7", 38: "score"}


def rename(name: str, network: Any) -> str | None:
    found = re.fullmatch(r"features\.(\d+)", name)
    if found is None:
        return None
    index = int(found[1])
    if index in _HEAD:
        return _HEAD[index]
    # Each stage is convolutions and ReLUs in turn, then a pooling.
    for stage, depth in enumerate((2, 2, 3, 3, 3)):
        if index < 2 * depth:
            return f"encoder/stages_{stage}/conv{index // 2 + 1}"
        index -= 2 * depth + 1
    return None
