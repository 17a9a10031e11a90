"""ycszen/TorchSeg (R18, X39) and CoinCheung/BiSeNet (`BiSeNetV1`) -> bisenet; TorchSeg's xception39 -> that encoder."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input, imagenet
from segjax.convert.maps import resnet

MODELS = ("bisenet", "xception39")
INPUT = {
    "torchseg": imagenet("ycszen/TorchSeg"),
    "coincheung-cityscapes": Input(
        (83.05, 94.10, 82.19), (53.86, 54.77, 53.93), source="CoinCheung/BiSeNet, Cityscapes"
    ),
    "coincheung-coco": Input((119.75, 113.83, 103.83), (70.05, 68.88, 72.72), source="CoinCheung/BiSeNet, COCO-Stuff"),
    "coincheung-ade": Input((125.83, 119.39, 109.92), (65.49, 65.04, 69.93), source="CoinCheung/BiSeNet, ADE20K"),
    "coincheung-old": imagenet("CoinCheung/BiSeNet, its folder old/"),
}

_LAYER = {"conv": "conv", "bn": "norm"}
# TorchSeg first, then CoinCheung: the module of a convolution with its normalisation.
_PLACES = {
    "spatial_path.conv_7x7": "spatial1",
    "spatial_path.conv_3x3_1": "spatial2",
    "spatial_path.conv_3x3_2": "spatial3",
    "spatial_path.conv_1x1": "spatial4",
    "global_context.1": "mean",
    "arms.0.conv_3x3": "attention32/conv",
    "arms.0.channel_attention.1": "attention32/gate",
    "arms.1.conv_3x3": "attention16/conv",
    "arms.1.channel_attention.1": "attention16/gate",
    "refines.0": "refine32",
    "refines.1": "refine16",
    "ffm.conv_1x1": "fusion/mix",
    "heads.0.conv_3x3": "aux16_conv",
    "heads.1.conv_3x3": "aux8_conv",
    "heads.2.conv_3x3": "head_conv",
    "sp.conv1": "spatial1",
    "sp.conv2": "spatial2",
    "sp.conv3": "spatial3",
    "sp.conv_out": "spatial4",
    "cp.conv_avg": "mean",
    "cp.arm32.conv": "attention32/conv",
    "cp.arm16.conv": "attention16/conv",
    "cp.conv_head32": "refine32",
    "cp.conv_head16": "refine16",
    "ffm.convblk": "fusion/mix",
    "ffm": "fusion/gate",
    "conv_out.conv": "head_conv",
    "conv_out16.conv": "aux8_conv",
    "conv_out32.conv": "aux16_conv",
}
_BARE = {
    "ffm.channel_attention.1.conv": "fusion/gate1",
    "ffm.channel_attention.2.conv": "fusion/gate2",
    "heads.0.conv_1x1": "aux16_classifier",
    "heads.1.conv_1x1": "aux8_classifier",
    "heads.2.conv_1x1": "head_classifier",
    "cp.arm32.conv_atten": "attention32/gate/conv",
    "cp.arm32.bn_atten": "attention32/gate/norm",
    "cp.arm16.conv_atten": "attention16/gate/conv",
    "cp.arm16.bn_atten": "attention16/gate/norm",
    "conv_out.conv_out": "head_classifier",
    "conv_out16.conv_out": "aux8_classifier",
    "conv_out32.conv_out": "aux16_classifier",
}


def rename(name: str, network: Any) -> str | None:
    if name in _BARE:
        return _BARE[name]
    for prefix in ("context_path.", "cp.resnet."):
        if name.startswith(prefix):
            inner = name.removeprefix(prefix)
            place = _xception(inner) or resnet.stem(inner, "7x7") or resnet.block(inner)
            return place and f"encoder/{place}"
    module, _, layer = name.rpartition(".")
    if layer in _LAYER and module in _PLACES:
        return f"{_PLACES[module]}/{_LAYER[layer]}"
    return _xception(name)


def _xception(name: str) -> str | None:
    if found := re.fullmatch(r"conv1\.(conv|bn)", name):
        return f"stem/{_LAYER[found[1]]}"
    found = re.fullmatch(
        r"layer(\d)\.(\d+)\.(?:residual_branch\.(\d)|proj)\.(conv1|point_wise_cbr\.conv|point_wise_cbr\.bn)", name
    )
    if found is None:
        return None
    child = f"conv{int(found[3]) + 1}" if found[3] else "shortcut"
    part = "depthwise" if found[4] == "conv1" else f"pointwise/{_LAYER[found[4].rpartition('.')[2]]}"
    return f"stage{found[1]}_block{int(found[2]) + 1}/{child}/{part}"
