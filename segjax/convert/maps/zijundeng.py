"""zijundeng/pytorch-semantic-segmentation: `GCN` -> gcn/...-k7; `ResNetDUCHDC`, `ResNetDUC` -> duc_hdc."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, indexed_stem

MODELS = ("gcn", "duc_hdc")
INPUT = imagenet("zijundeng/pytorch-semantic-segmentation")

_GLOBAL = {"l1": "tall_first", "l2": "wide_second", "r1": "wide_first", "r2": "tall_second"}
_REFINED = dict(
    enumerate(
        ["_32", "_16", "_8", "_4", "_sum_16", "_sum_8", "_sum_4", "_2", "_1"],
        start=1,
    )
)


def rename(name: str, network: Any) -> str | None:
    if name in ("duc.conv", "duc.bn"):
        return f"duc/{'conv' if name == 'duc.conv' else 'norm'}"
    if found := re.fullmatch(r"layer0\.(\d)", name):
        place = indexed_stem(found[1], "7x7")
        return place and f"encoder/{place}"
    if found := re.fullmatch(r"gcm(\d)\.conv_([lr][12])", name):
        return f"global_{64 >> int(found[1])}/{_GLOBAL[found[2]]}"
    if found := re.fullmatch(r"brm(\d)\.(conv[12])", name):
        return f"refine{_REFINED[int(found[1])]}/{found[2]}"
    if type(network).__name__ == "GCN":
        name = re.sub(r"^layer1\.1\.", "layer1.", name)  # the max-pool is layer1.0
    place = block(name)
    return place and f"encoder/{place}"


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    """PixelShuffle reads channels as (class, row, column), `depth_to_space` as (row, column, class)."""

    def reorder(name: str, value: np.ndarray) -> np.ndarray:
        if not name.startswith("duc."):
            return value
        side = network.output_stride
        split = value.reshape(-1, side, side, *value.shape[1:])
        return np.moveaxis(split, 0, 2).reshape(value.shape)

    return {name: reorder(name, value) for name, value in tensors.items()}
