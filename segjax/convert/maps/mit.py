"""NVlabs/SegFormer and Hugging Face's SegFormer -> segformer, and their backbones -> the encoders mit_b0 to mit_b5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.convert.fused import split_fused
from segjax.convert.inputs import imagenet

MODELS = ("segformer", "mit")
# A classifier that never runs; the ImageNet one.
DROPPED = (r"^decode_head\.conv_seg\.", r"^(backbone\.)?head\.", r"^classifier\.")
INPUT = imagenet(
    "NVlabs/SegFormer",
    "ADE20K at short side 512, sides rounded up to 32; Cityscapes in windows of 1024; transformers squeezes to 512x512",
)

_HEAD = {
    "linear_fuse.conv": "fuse/conv",
    "linear_fuse.bn": "fuse/norm",
    "linear_pred": "classifier",
    "linear_fuse": "fuse/conv",
    "batch_norm": "fuse/norm",
    "classifier": "classifier",
}
# NVlabs's name, Hugging Face's, ours.
_BLOCK = (
    ("norm1", "layer_norm_1", "norm1"),
    ("attn.q", "attention.self.query", "attention/query"),
    ("attn.k", "attention.self.key", "attention/key"),
    ("attn.v", "attention.self.value", "attention/value"),
    ("attn.sr", "attention.self.sr", "attention/reduce"),
    ("attn.norm", "attention.self.layer_norm", "attention/reduce_norm"),
    ("attn.proj", "attention.output.dense", "attention/project"),
    ("norm2", "layer_norm_2", "norm2"),
    ("mlp.fc1", "mlp.dense1", "mlp/expand"),
    ("mlp.dwconv.dwconv", "mlp.dwconv.dwconv", "mlp/depthwise"),
    ("mlp.fc2", "mlp.dense2", "mlp/contract"),
)
_INSIDE = {theirs: ours for *names, ours in _BLOCK for theirs in names}


def prepare(tensors: Mapping[str, np.ndarray], network: Any) -> dict[str, np.ndarray]:
    return split_fused(tensors, "kv", ("k", "v"))


def rename(name: str, network: Any) -> str | None:
    if name.startswith("decode_head."):
        inner = name.removeprefix("decode_head.")
        # One counts stages from 1, `linear_c1`, the other from 0, `linear_c.0`.
        found = re.fullmatch(r"linear_c(\.?)(\d)\.proj", inner)
        return f"stage{2 ** (int(found[2]) + (2 if found[1] else 1))}" if found else _HEAD.get(inner)
    for prefix in ("backbone.", "segformer.encoder."):
        if name.startswith(prefix):
            place = rename(name.removeprefix(prefix), network)
            inside = type(network).__name__ != "MiT"
            return f"encoder/{place}" if place and inside else place
    found = re.fullmatch(r"(patch_embed|patch_embeddings|norm|layer_norm|block)(\.?)(\d)(?:\.(.+))?", name)
    if found is None:
        return None
    kind, dot, number, rest = found.groups()
    stage = f"stage{int(number) + (1 if dot else 0)}"
    if kind.startswith("patch"):
        return {"proj": f"{stage}_embed", "norm": f"{stage}_embed_norm", "layer_norm": f"{stage}_embed_norm"}.get(rest)
    if kind.endswith("norm"):
        return f"{stage}_norm"
    block, _, child = (rest or "").partition(".")
    return f"{stage}_block{int(block) + 1}/{_INSIDE[child]}" if child in _INSIDE else None
