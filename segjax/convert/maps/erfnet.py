"""Eromera/erfnet_pytorch -> erfnet; its biases right before a normalisation go into the running mean where ours has
none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.inputs import Input

MODELS = ("erfnet",)
INPUT = Input((0.0,) * 3, (255.0,) * 3, source="Eromera/erfnet_pytorch", sizes="Cityscapes halved: --resize 512x1024")

# The encoder's classifier that the whole network never runs.
_UNUSED = r"encoder\.output_conv\."
_BIASED = {r"(.+)\.conv1x3_([12])": r"\1.bn\2", r"(.*(?:initial_block|layers\.\d+))\.conv": r"\1.bn"}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    if network.decoder:
        tensors = {name: value for name, value in tensors.items() if not re.match(_UNUSED, name)}
    tensors = dict(tensors)
    if network.conv_bias:
        return tensors
    for pattern, norm in _BIASED.items():
        for name in [name for name in tensors if re.fullmatch(rf"{pattern}\.bias", name)]:
            mean = re.sub(rf"{pattern}\.bias", rf"{norm}.running_mean", name)
            if mean in tensors:
                bias = tensors.pop(name)
                # Beside a pooling, the convolution's channels are the first ones.
                tensors[mean] = tensors[mean] - np.pad(bias, (0, len(tensors[mean]) - len(bias)))
    return tensors


def rename(name: str, network: Any) -> str | None:
    if name == "encoder.output_conv":
        return "classifier" if not network.decoder else None
    if name == "decoder.output_conv":
        return "logits"
    if name.startswith("encoder.initial_block."):
        return f"down1/{_inside(name.removeprefix('encoder.initial_block.'))}"
    found = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(\w+)", name)
    if found is None:
        return None
    index, inside = int(found[2]), _inside(found[3])
    if found[1] == "decoder":
        stage, index = 3 + index // (network.decoder_blocks + 1), index % (network.decoder_blocks + 1)
        if index == 0:
            return f"up{stage}" if inside == "conv" else f"up{stage}_norm"
        return f"stage{stage}_{index}/{inside}"
    if index in (0, network.blocks + 1):
        return f"{'down2' if index == 0 else 'down3'}/{inside}"
    if index <= network.blocks:
        return f"stage1_{index}/{inside}"
    return f"stage2_{index - network.blocks - 1}/{inside}"


def _inside(name: str) -> str:
    for theirs, ours in (("conv3x1_", "column"), ("conv1x3_", "row"), ("bn", "norm")):
        name = name.replace(theirs, ours)
    return name
