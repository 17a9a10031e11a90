"""PyTorch twins of segjax networks, written to benchmark the two against each other.

Each is the network that a PyTorch user would write, equal to ours in parameters, outputs and multiply-accumulates
(`tests/benchmarks/test_rivals.py`). Called with images float [B, 3, H, W] it returns logits [B, K, H, W] at the
images' size; in training mode a tuple, the logits and then every auxiliary output.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

RIVALS: dict[str, str] = {
    "unet": "unet",
    "enet": "enet",
    "erfnet": "erfnet",
    "segnet": "segnet",
    "fcdensenet/103": "fcdensenet",
    "deeplabv3plus/resnet50": "deeplabv3plus",
    "pspnet/resnet50": "pspnet",
    "ocr/hrnet-w48": "ocr",
    "segformer/b2": "segformer",
}
"""The name of the network in segjax's registry: the module of this package that has its twin."""


def build(name: str, num_classes: int, **sizes: Any) -> torch.nn.Module:
    """The twin of segjax's `name`, with PyTorch's initial values; `sizes` are widths and depths other than its own.

    Raises:
      ValueError: a network without a twin; lists those with one.
    """
    if name not in RIVALS:
        raise ValueError(f"{name!r} has no PyTorch twin; these have: {', '.join(RIVALS)}")
    return importlib.import_module(f"{__name__}.{RIVALS[name]}").build(num_classes, **sizes)
