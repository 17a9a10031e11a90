"""sacmehta/ESPNet, train/Model.py -> espnet: the full network, or the encoder's file by itself (variants c-*)."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input
from segjax.core.schema import Resize

MODELS = ("espnet",)
INPUT = {  # standardised first, and then divided by 255
    "cityscapes": Input(
        (72.3923111, 82.90893555, 73.15840149),
        tuple(255 * std for std in (45.3192215, 46.15289307, 44.91483307)),
        "bgr",
        Resize(size=(512, 1024)),
        source="sacmehta/ESPNet, Cityscapes",
    ),
    "camvid": Input(
        (110.33139, 108.40919, 105.03353),
        tuple(255 * std for std in (72.125206, 72.68849, 69.902596)),
        "bgr",
        Resize(size=(360, 480)),
        source="sacmehta/ESPNet, CamVid",
    ),
}

_JOINS = {"level1": "level1_norm_act", "b1": "join1", "b2": "join2", "b3": "join3", "combine_l2_l3.0": "join_scores",
          "up_l2.1": "up2_norm_act", "conv": "last_norm_act"}  # fmt: skip
_CONVS = {"level1": "level1", "classifier": "classifier", "level3_C": "project2", "conv": "last"}
_OTHERS = {"br": "scores_norm", "up_l3.0": "up3", "up_l2.0": "up2"}


def rename(name: str, network: Any) -> str | None:
    inner = name.removeprefix("encoder.")
    if network.decoder and name == inner and name.split(".")[0] in ("b1", "b2", "b3", "level1", "level2", "level3"):
        return None
    if name == "classifier" and network.decoder:
        return "logits"
    if inner in _OTHERS:
        return _OTHERS[inner]
    if found := re.fullmatch(r"(.+)\.(bn|act)", inner):
        place, part = _JOINS.get(found[1]) or _module(found[1].removesuffix(".bn"), "norm_act"), found[2]
        return place and f"{place}/{'norm' if part == 'bn' else 'act'}"
    if found := re.fullmatch(r"(.+)\.(c1|d\d+)\.conv", inner):
        return _module(found[1], "reduce" if found[2] == "c1" else f"rate_{found[2][1:]}")
    return _CONVS.get(inner.removesuffix(".conv")) if inner.endswith(".conv") else None


def _module(name: str, child: str) -> str | None:
    """A child of an ESP module: `level2_0` is the one that halves, `level2.0` the first residual one."""
    if name == "combine_l2_l3.1":
        return f"fuse/{child}"
    found = re.fullmatch(r"level([23])(_0|\.\d+)", name)
    if found is None:
        return None
    place = "down" if found[2] == "_0" else int(found[2][1:]) + 1
    return f"level{found[1]}_{place}/{child}"
