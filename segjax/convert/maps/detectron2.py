"""facebookresearch/detectron2: `GeneralizedRCNN` of a ResNet, a feature pyramid, boxes and masks -> maskrcnn."""

from __future__ import annotations

import re
from typing import Any

from segjax.convert.inputs import Input

MODELS = ("maskrcnn",)
DROPPED = (r"^pixel_(mean|std)$", r"anchor_generator\.cell_anchors")
INPUT = Input(
    (103.53, 116.28, 123.675),
    (1.0, 1.0, 1.0),
    "bgr",
    source="facebookresearch/detectron2",
    sizes="the short side 800 pixels, the long one at most 1333",
)

_HEADS = {
    "proposal_generator.rpn_head.conv": "rpn/conv",
    "proposal_generator.rpn_head.objectness_logits": "rpn/objectness",
    "proposal_generator.rpn_head.anchor_deltas": "rpn/deltas",
    "roi_heads.box_head.fc1": "box_head/fc1",
    "roi_heads.box_head.fc2": "box_head/fc2",
    "roi_heads.box_predictor.cls_score": "box_head/classes",
    "roi_heads.box_predictor.bbox_pred": "box_head/deltas",
    "roi_heads.mask_head.deconv": "mask_head/upconv",
    "roi_heads.mask_head.predictor": "mask_head/classifier",
}


def rename(name: str, network: Any) -> str | None:
    if name in _HEADS:
        return _HEADS[name]
    if found := re.fullmatch(r"backbone\.fpn_(lateral|output)(\d)", name):
        return f"pyramid/{found[1]}_{1 << int(found[2])}"
    if found := re.fullmatch(r"roi_heads\.mask_head\.mask_fcn(\d)", name):
        return f"mask_head/conv{found[1]}"
    if found := re.fullmatch(r"backbone\.bottom_up\.(.+?)(\.norm)?", name):
        kind = "norm" if found[2] else "conv"
        if found[1] == "stem.conv1":
            return f"encoder/stem/{kind}"
        if block := re.fullmatch(r"res(\d)\.(\d+)\.(conv\d|shortcut)", found[1]):
            return f"encoder/stage{int(block[1]) - 1}_block{int(block[2]) + 1}/{block[3]}/{kind}"
    return None
