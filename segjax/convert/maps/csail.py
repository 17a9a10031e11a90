"""CSAILVision/semantic-segmentation-pytorch, encoder and decoder in one state dict as `encoder.` and `decoder.`:
resnet50, 101 with upernet -> upernet/resnet50, resnet101; dilated with ppm_deepsup -> pspnet/resnet50-csail."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import imagenet
from segjax.convert.maps.resnet import block, numbered_stem

MODELS = ("upernet", "pspnet")
INPUT = imagenet(
    "CSAILVision/semantic-segmentation-pytorch",
    "the mean over short sides of 300 to 600 pixels, none longer than 1000, rounded to multiples of 8 (32: UPerNet)",
)

_TRIPLE = ("conv", "norm")  # of an nn.Sequential of convolution, normalisation and ReLU


def rename(name: str, network: Any) -> str | None:
    part, _, rest = name.partition(".")
    if part == "encoder":
        place = numbered_stem(rest) or block(rest)
        return place and f"encoder/{place}"
    return _decoder(rest, network) if part == "decoder" else None


def _decoder(name: str, network: Any) -> str | None:
    if name == "conv_last_deepsup":
        return "aux_head/classifier"
    found = re.fullmatch(r"(.+?)\.([\d.]+)", name)
    if found is None:
        return None
    group, numbers = found[1], [int(number) for number in found[2].split(".")]
    kind = _TRIPLE[numbers[-1]] if numbers[-1] < 2 else None
    if group == "ppm_conv":
        return f"pooling/bins_{network.bins[numbers[0]]}/{kind}"
    if group == "ppm":
        return f"pyramid/bins_{network.bins[numbers[0]]}/{_TRIPLE[numbers[1] - 1]}"
    if group == "ppm_last_conv":
        return f"pooled/{kind}"
    if group in ("fpn_in", "fpn_out"):
        return f"{'lateral' if group == 'fpn_in' else 'level'}_{4 << numbers[0]}/{kind}"
    if group == "cbr_deepsup":
        return f"aux_head/conv/{kind}"
    if group == "conv_last":
        upernet = {(0, 0): "conv/conv", (0, 1): "conv/norm", (1,): "classifier"}
        pspnet = {(0,): "conv/conv", (1,): "conv/norm", (4,): "classifier"}
        table = upernet if type(network).__name__ == "UPerNet" else pspnet
        place = table.get(tuple(numbers))
        return place and f"head/{place}"
    return None
