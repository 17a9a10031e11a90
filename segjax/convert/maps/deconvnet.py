"""choco9966/Semantic-Segmentation-Review, `DeconvNet(classes)` -> deconvnet/vgg16; with its biases, deconvnet/caffe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.bias import fold_biases

MODELS = ("deconvnet",)
INPUT = None  # the repository publishes no weights and does not normalise

_FULLY_CONNECTED = {
    "fc6.0": "fc6/conv",
    "fc6.1": "fc6/norm",
    "fc7.0": "fc7/conv",
    "fc7.1": "fc7/norm",
    "fc6_deconv.0": "fc6_up",
    "fc6_deconv.1": "fc6_up_norm",
    "score_fr": "classifier",
}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    """A transposed convolution of stride 1 is a convolution with the mirrored kernel."""
    tensors = {
        name: value.swapaxes(0, 1)[..., ::-1, ::-1] if re.fullmatch(r"deconv\d_\d\.0\.weight", name) else value
        for name, value in tensors.items()
    }
    if network.conv_bias:
        return tensors
    convs = [name.removesuffix(".0.bias") for name in tensors if name.endswith(".0.bias")]
    return fold_biases(tensors, {f"{conv}.0": f"{conv}.1" for conv in convs})


def rename(name: str, network: Any) -> str | None:
    if name in _FULLY_CONNECTED:
        return _FULLY_CONNECTED[name]
    found = re.fullmatch(r"(de)?conv(\d)_(\d)\.([01])", name)
    if found is None:
        return None
    level = f"decoder{found[2]}" if found[1] else f"encoder/stages_{int(found[2]) - 1}"
    return f"{level}/conv{found[3]}/{('conv', 'norm')[int(found[4])]}"
