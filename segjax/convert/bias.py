"""Biases right before a batch normalisation, which takes them away again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def fold_biases(tensors: Mapping[str, np.ndarray], pairs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors without the biases of some convolutions: the running mean that follows has them instead.

    The outputs stay in evaluation, and in training too, where the batch's own mean takes the bias away.

    Args:
      tensors: of a state dict, by name.
      pairs: {convolution: the normalisation right behind it}, module names; those without such tensors are passed over.
    """
    tensors = dict(tensors)
    for conv, norm in pairs.items():
        if f"{conv}.bias" in tensors and f"{norm}.running_mean" in tensors:
            tensors[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] - tensors.pop(f"{conv}.bias")
    return tensors
