"""bfortuner/pytorch_tiramisu -> fcdensenet."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("fcdensenet",)
INPUT = Input((105.03, 108.41, 110.33), (69.90, 72.69, 72.13), source="bfortuner/pytorch_tiramisu", sizes="360x480")


def rename(name: str, network: Any) -> str | None:
    blocks = len(network.layers)
    if name in ("firstconv", "finalConv"):
        return {"firstconv": "first", "finalConv": "classifier"}[name]
    if found := re.fullmatch(r"transUpBlocks\.(\d)\.convTrans", name):
        return f"up{blocks - int(found[1])}_transition"
    if found := re.fullmatch(r"transDownBlocks\.(\d)\.(norm|conv)", name):
        return f"down{int(found[1]) + 1}_transition/{found[2]}"
    found = re.fullmatch(r"(?:bottleneck\.bottleneck|denseBlocks(Up|Down)\.(\d))\.layers\.(\d+)\.(norm|conv)", name)
    if found is None:
        return None
    down, up = int(found[2] or 0) + 1, blocks - int(found[2] or 0)
    place = {None: "middle", "Down": f"down{down}", "Up": f"up{up}"}[found[1]]
    return f"{place}_layer{int(found[3]) + 1}/{found[4]}"
