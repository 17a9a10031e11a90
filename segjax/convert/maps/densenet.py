"""torchvision's DenseNet (timm's names are the same) -> encoders/densenet.py."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet

MODELS = ("densenet",)
DROPPED = (r"^classifier\.",)
INPUT = imagenet("torchvision")

_WHOLE = {"features.conv0": "stem_conv", "features.norm0": "stem_norm", "features.norm5": "last_norm"}


def rename(name: str, network: Any) -> str | None:
    if name in _WHOLE:
        return _WHOLE[name]
    if found := re.fullmatch(r"features\.transition(\d)\.(conv|norm)", name):
        return f"transition{found[1]}_{found[2]}"
    found = re.fullmatch(r"features\.denseblock(\d)\.denselayer(\d+)\.((?:conv|norm)[12])", name)
    return f"block{found[1]}_layer{found[2]}/{found[3]}" if found else None
