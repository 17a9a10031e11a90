"""meetshah1995/pytorch-semseg, `icnet(is_batchnorm=True)` -> icnet/semseg."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("icnet",)
DROPPED = (r"^pyramid_pooling\.",)  # convolutions that are never called
INPUT = {
    "semseg": Input((0.0,) * 3, (255.0,) * 3, "bgr", source="meetshah1995/pytorch-semseg", sizes="odd: 1025x2049"),
    "caffe": Input(
        (103.939, 116.779, 123.68), (1.0,) * 3, "bgr", source="meetshah1995/pytorch-semseg, weights taken from Caffe"
    ),
}

_UNITS = {"cbr1": "conv1", "cbr2": "conv2", "cb3": "conv3", "cb4": "shortcut"}
_OTHERS = {
    "conv5_4_k1": "low",
    "cff_sub24.low_dilated_conv_bn": "coarse_16",
    "cff_sub24.high_proj_conv_bn": "fine_16",
    "cff_sub12.low_dilated_conv_bn": "coarse_8",
    "cff_sub12.high_proj_conv_bn": "fine_8",
}


def rename(name: str, network: Any) -> str | None:
    classifiers = {
        "classification": "classifier",
        "cff_sub24.low_classifier_conv": "classifier_16",
        "cff_sub12.low_classifier_conv": "classifier_8",
    }
    if name in classifiers:
        return classifiers[name]
    found = re.fullmatch(r"(.+)\.cbr?_unit\.([01])", name)
    place = found and _place(found[1])
    return f"{place}/{('conv', 'norm')[int(found[2])]}" if place else None


def _place(name: str) -> str | None:
    """Of a convolution and its normalisation."""
    if found := re.fullmatch(r"convbnrelu1_([123])", name):
        return f"stem{found[1]}"
    if found := re.fullmatch(r"convbnrelu([123])_sub1", name):
        return f"high{found[1]}"
    if found := re.fullmatch(r"res_block(\d)(_conv|_identity)?\.layers\.(\d+)\.(\w+)", name):
        block = int(found[3]) + (2 if found[2] == "_identity" else 1)
        unit = _UNITS.get(found[4])
        return unit and f"stage{int(found[1]) - 1}_block{block}/{unit}"
    return _OTHERS.get(name)
