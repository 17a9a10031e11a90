"""milesial/Pytorch-UNet, `UNet(..., bilinear=False)` -> unet/same."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input
from segjax.core.schema import Resize

MODELS = ("unet",)
_HALF = Resize(factor=0.5, method="bicubic", antialias=True)
INPUT = {  # which of them is the option --scale of its training, 0.5 where nothing else was asked for
    "half": Input((0.0,) * 3, (255.0,) * 3, resize=_HALF, source="milesial/Pytorch-UNet at scale 0.5"),
    "whole": Input((0.0,) * 3, (255.0,) * 3, source="milesial/Pytorch-UNet at scale 1"),
}


def rename(name: str, network: Any) -> str | None:
    if name == "outc.conv":
        return "logits"
    if found := re.fullmatch(r"up(\d)\.up", name):
        return f"upconv{network.depth - int(found[1])}"
    found = re.fullmatch(r"(?:inc|down(\d)\.maxpool_conv\.1|up(\d)\.conv)\.double_conv\.([0134])", name)
    if found is None:
        return None
    place = f"up{network.depth - int(found[2])}" if found[2] else f"down{found[1] or 0}"
    return f"{place}_conv{int(found[3]) // 3 + 1}/{('conv', 'norm')[int(found[3]) % 3]}"
