"""4uiiurz1/pytorch-nested-unet, `NestedUNet` -> unetpp."""

from __future__ import annotations

import re
from typing import Any

MODELS = ("unetpp",)


def rename(name: str, network: Any) -> str | None:
    if found := re.fullmatch(r"final(\d?)", name):
        return f"classifier{found[1] or len(network.widths) - 1}"
    found = re.fullmatch(r"conv(\d)_(\d)\.(conv|bn)([12])", name)
    return found and f"node{found[1]}_{found[2]}/conv{found[4]}/{'conv' if found[3] == 'conv' else 'norm'}"
