"""segmentation_models_pytorch, `DeepLabV3Plus("resnet*")` -> deeplabv3plus/resnet*-smp."""

from __future__ import annotations

from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, stem
from segjax.convert.maps.vainf import pyramid

MODELS = ("deeplabv3plus",)
INPUT = imagenet("segmentation_models_pytorch, ResNet encoders", "multiples of 32")

_SEPARABLE = {"0.0": "depthwise", "0.1": "pointwise/conv", "1": "pointwise/norm"}
_REST = {
    "decoder.aspp.1.0": "context/depthwise",
    "decoder.aspp.1.1": "context/pointwise/conv",
    "decoder.aspp.2": "context/pointwise/norm",
    "decoder.block1.0": "low/conv",
    "decoder.block1.1": "low/norm",
    **{f"decoder.block2.{name}": f"decoder1/{place}" for name, place in _SEPARABLE.items()},
    "segmentation_head.0": "classifier",
}


def rename(name: str, network: Any) -> str | None:
    if name in _REST:
        return _REST[name]
    if name.startswith("decoder.aspp.0."):
        return pyramid(name.removeprefix("decoder.aspp.0."), network, _SEPARABLE)
    part, _, inside = name.partition(".")
    place = part == "encoder" and (stem(inside, "7x7") or block(inside))
    return f"encoder/{place}" if place else None
