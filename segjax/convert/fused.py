"""Matrices that a reference keeps as one and we keep apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def split_fused(tensors: Mapping[str, np.ndarray], fused: str, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """The weight and bias of every module called `fused`, such as `blocks.0.attn.qkv`, as those of siblings called
    `parts`, which have an equal share of the output channels (the first axis) each."""
    result = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        if module.rpartition(".")[2] != fused:
            result[name] = value
            continue
        for part, piece in zip(parts, np.split(value, len(parts)), strict=True):
            result[f"{module.removesuffix(fused)}{part}.{leaf}"] = piece
    return result
