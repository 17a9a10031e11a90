"""DrSleep/refinenet-pytorch and DrSleep/light-weight-refinenet (ResNet) -> refinenet."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, stem

MODELS = ("refinenet",)
INPUT = imagenet("DrSleep/refinenet-pytorch and light-weight-refinenet")

_RULES = (
    (r"p_ims1d2_outl(\d)_dimred", r"reduce\1"),
    (r"adapt_stage(\d)_b2_joint_varout_dimred", r"join\1"),
    (r"mflow_conv_g(\d)_b3_joint_varout_dimred", r"out\1"),
    (r"mflow_conv_g(\d)_pool\.0\.(\d)_outvar_dimred", r"pool\1/conv\2"),
    (r"adapt_stage(\d)_b\.0\.(\d)_conv", r"adapt\1/unit\2_conv1"),
    (r"adapt_stage(\d)_b\.0\.(\d)_conv_relu_varout_dimred", r"adapt\1/unit\2_conv2"),
    (r"mflow_conv_g(\d)_b\.0\.(\d)_conv", r"refine\1/unit\2_conv1"),
    (r"mflow_conv_g(\d)_b\.0\.(\d)_conv_relu_varout_dimred", r"refine\1/unit\2_conv2"),
    (r"clf_conv", "classifier"),
)


def rename(name: str, network: Any) -> str | None:
    if place := stem(name, "7x7") or block(name):
        return f"encoder/{place}"
    return next((re.sub(theirs, ours, name) for theirs, ours in _RULES if re.fullmatch(theirs, name)), None)
