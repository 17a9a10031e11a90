"""HRNet/HRNet-Semantic-Segmentation, `seg_hrnet_ocr` -> ocr/hrnet-*; openseg-group/openseg.pytorch, `SpatialOCRNet` ->
ocr/resnet*; their biases before a normalisation go into its running mean where ours has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.bias import fold_biases
from segjax.convert.inputs import Input, imagenet
from segjax.convert.maps import hrnet, resnet
from segjax.core.schema import IMAGENET_MEAN, IMAGENET_STD

MODELS = ("ocr",)
INPUT = {
    "hrnet": imagenet("HRNet/HRNet-Semantic-Segmentation"),
    # The statistics of RGB, given to BGR.
    "openseg-hrnet": Input(
        IMAGENET_MEAN, IMAGENET_STD, "bgr", source="openseg-group/openseg.pytorch, HRNet", sizes="Cityscapes whole"
    ),
    "openseg-resnet101": Input(
        (102.9801, 115.9465, 122.7717), (1.0,) * 3, "bgr", source="openseg-group/openseg.pytorch, ResNet-101"
    ),
}

_HEADS = {"conv3x3_ocr": "pixels", "conv_3x3": "pixels", "ocr_distri_head": "ocr", "spatial_ocr_head": "ocr"}
_TRANSFORMS = {"f_pixel": "query", "f_object": "key", "f_down": "value", "f_up": "out"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    if network.conv_bias:
        return dict(tensors)
    pairs = {}
    for name in tensors:
        if found := re.fullmatch(r"(.+)\.(\d)\.bias", name):
            behind = f"{found[1]}.{int(found[2]) + 1}"  # a normalisation, or one and its activation
            pairs[f"{found[1]}.{found[2]}"] = f"{behind}.0" if f"{behind}.0.running_mean" in tensors else behind
    return fold_biases(tensors, pairs)


def rename(name: str, network: Any) -> str | None:
    if name in ("cls_head", "head"):
        return "classifier"
    head, _, rest = name.partition(".")
    if head in _HEADS:
        return f"pixels/{_part(rest)}" if _HEADS[head] == "pixels" else _inside(rest)
    if head == "aux_head":
        return {"0": "regions_conv/conv", "1": "regions_conv/norm", "3": "regions"}.get(rest)
    if head == "dsn_head":
        return "regions/classifier" if rest == "3" else f"regions/conv/{_part(rest)}"
    if name.startswith("backbone.resinit."):
        place = resnet.numbered_stem(rest.removeprefix("resinit."))
    else:
        place = resnet.block(rest) if head == "backbone" else hrnet.encoder(name)
    return place and f"encoder/{place}"


def _inside(name: str) -> str | None:
    if name.startswith("conv_bn_dropout."):
        return f"join/{_part(name.removeprefix('conv_bn_dropout.'))}"
    found = re.fullmatch(r"object_context_block\.(f_\w+)\.([0-3])(\.0)?", name)
    if found is None:
        return None
    transform, index = _TRANSFORMS[found[1]], int(found[2])
    number = "" if transform == "out" else index // 2 + 1
    return f"attention/{transform}{number}/{('conv', 'norm')[index % 2]}"


def _part(index: str) -> str | None:
    return {"0": "conv", "1": "norm", "1.0": "norm"}.get(index)
