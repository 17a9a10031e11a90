"""davidtvs/PyTorch-ENet -> enet/davidtvs; its first layout, of 2018 -> enet/davidtvs-2018."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("enet",)
INPUT = Input((0.0,) * 3, (255.0,) * 3, source="davidtvs/PyTorch-ENet", sizes="CamVid 360x480, Cityscapes 512x1024")

_WHOLE = {
    "initial_block.main_branch": "initial",
    "initial_block.batch_norm": "initial_norm",
    "initial_block.out_prelu": "initial_act",
    "initial_block.out_activation": "initial_act",
    "transposed_conv": "logits",
}
# Of a bottleneck that goes up: the 2018 layout has `ext_conv3` and no `ext_tconv1`.
_UP = {"ext_tconv1": "up", "ext_tconv1_bnorm": "up_norm", "ext_tconv1_activation": "up_act"}
_SEQUENCES = {"main_conv1": ("shortcut",), "ext_conv1": ("reduce",), "ext_conv3": ("expand",)}


def rename(name: str, network: Any) -> str | None:
    if name in _WHOLE:
        return _WHOLE[name]
    found = re.fullmatch(r"(downsample|upsample|regular|dilated|asymmetric)(\d)_(\d)\.(.+)", name)
    if found is None:
        return None
    kind, stage, place, inside = found[1], int(found[2]), int(found[3]), found[4]
    if kind in ("downsample", "upsample"):
        block = f"{'down' if kind == 'downsample' else 'up'}{stage}"
    else:
        # Stage 3 has no block that changes the size and counts from 0.
        block = f"stage{stage}_{place + (stage == 3)}"
    inside = _inside(kind, inside, network)
    return inside and f"{block}/{inside}"


def _inside(kind: str, name: str, network: Any) -> str | None:
    if name in ("out_prelu", "out_activation"):
        return "act"
    if name in _UP:
        return _UP[name]
    found = re.fullmatch(r"(main_conv1|ext_conv[123])\.(\d)", name)
    if found is None:
        return None
    index = int(found[2])
    if found[1] == "ext_conv2" and kind == "upsample":
        if network.layout == "davidtvs-2018":
            return ("up", "up_norm", "up_act")[index]
        parts = ("expand",)
    elif found[1] == "ext_conv2":
        parts = ("column", "row") if kind == "asymmetric" else ("middle",)
    else:
        parts = _SEQUENCES[found[1]]
    part = parts[index // 3]
    return (f"{part}/conv", f"{part}/norm", f"{part}_act")[index % 3]
