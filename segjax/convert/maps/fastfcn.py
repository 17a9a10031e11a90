"""wuhuikai/FastFCN, `PSP`, `DeepLabV3`, `EncNet` (without the semantic encoding loss) and `FCN` with `jpu="JPU"` ->
fastfcn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, stem

MODELS = ("fastfcn",)
DROPPED = (r"^pretrained\.fc\.",)
INPUT = imagenet("wuhuikai/FastFCN", "base size 520, crops of 480")

_FCN = {"0": "conv/conv", "1": "conv/norm", "4": "classifier"}
_ASPP = {"b0": "point", "b4.gap": "pool/conv_norm", "project": "project"}
_ENC = {
    "conv5.0": "reduce/conv",
    "conv5.1": "reduce/norm",
    "conv6.1": "classifier",
    "encmodule.encoding.0": "context/project/conv",
    "encmodule.encoding.1": "context/project/norm",
    "encmodule.encoding.3.codewords": "context/encoding/codewords",
    "encmodule.encoding.3.scale": "context/encoding/smoothing",
    "encmodule.encoding.4": "context/norm",
    "encmodule.fc.0": "context/gate",
}


def rename(name: str, network: Any) -> str | None:
    part, _, rest = name.partition(".")
    if part == "pretrained":
        place = stem(rest, "deep") or block(rest)
        return place and f"encoder/{place}"
    if part == "jpu":
        place = _upsampling(rest)
        return place and f"upsampling/{place}"
    if part == "auxlayer":
        place = _FCN.get(rest.removeprefix("conv5."))
        return place and f"aux_head/{place}"
    return getattr(_Heads, network.head)(rest, network) if part == "head" else None


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    """The codewords are [codes, channels] in both, though matrices are transposed."""
    return {name: value.T if name.endswith(".codewords") else value for name, value in tensors.items()}


def _upsampling(name: str) -> str | None:
    if found := re.fullmatch(r"conv([345])\.([01])", name):
        return f"stage_{int(found[1]) - 2}/{('conv', 'norm')[int(found[2])]}"
    found = re.fullmatch(r"dilation([1-4])\.(0\.conv1|0\.bn|0\.pointwise|1)", name)
    if found is None:
        return None
    rate = 1 << int(found[1]) - 1
    places = {"0.conv1": "depthwise_{}/conv", "0.bn": "depthwise_{}/norm", "0.pointwise": "rate_{}/conv"}
    return places.get(found[2], "rate_{}/norm").format(rate)


class _Heads:
    """The names of each head."""

    @staticmethod
    def fcn(name: str, network: Any) -> str | None:
        place = _FCN.get(name.removeprefix("conv5."))
        return place and f"head/{place}"

    @staticmethod
    def psp(name: str, network: Any) -> str | None:
        if found := re.fullmatch(r"conv5\.0\.conv([1-4])\.([01])", name):
            return f"context/bins_{(1, 2, 3, 6)[int(found[1]) - 1]}/{('conv', 'norm')[int(found[2])]}"
        place = {"1": "conv/conv", "2": "conv/norm", "5": "classifier"}.get(name.removeprefix("conv5."))
        return place and f"head/{place}"

    @staticmethod
    def aspp(name: str, network: Any) -> str | None:
        if found := re.fullmatch(r"aspp\.(b0|b4\.gap|project|b[123])\.(\d)", name):
            shift = 1 if found[1] == "b4.gap" else 0  # its first is the pooling
            place = _ASPP.get(found[1]) or f"rate_{network.rates[int(found[1][1]) - 1]}"
            return f"context/{place}/{('conv', 'norm')[int(found[2]) - shift]}"
        place = _FCN.get(name.removeprefix("block."))
        return place and f"head/{place}"

    @staticmethod
    def enc(name: str, network: Any) -> str | None:
        return _ENC.get(name)
