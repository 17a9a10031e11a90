"""wkentaro/pytorch-fcn, `FCN32s`, `FCN16s`, `FCN8s` and `FCN8sAtOnce` -> fcn/32s, 16s, 8s and 8s-atonce."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("fcn",)
INPUT = Input((104.00699, 116.66877, 122.67891), (1.0,) * 3, "bgr", source="wkentaro/pytorch-fcn")

_NAMES = {
    "fc6": "encoder/fully_connected/fc6",
    "fc7": "encoder/fully_connected/fc7",
    "score_fr": "score",
    "score_pool4": "score16",
    "score_pool3": "score8",
    "upscore2": "up16",
    "upscore_pool4": "up8",
    "upscore8": "up_image",
    "upscore16": "up_image",
    "upscore": "up_image",
}


def rename(name: str, network: Any) -> str | None:
    if found := re.fullmatch(r"conv(\d)_(\d)", name):
        return f"encoder/stages_{int(found[1]) - 1}/conv{found[2]}"
    return _NAMES.get(name)
