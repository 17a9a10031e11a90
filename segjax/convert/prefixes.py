"""What wrappers put before the names of a state dict, and a prefix that all names share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from segjax.core.errors import WeightsError

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""DataParallel's, torch.compile's, FSDP's and activation checkpointing's."""


def unwrapped(tensors: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The tensors, their names without the parts that wrappers add, in whatever order, number and place.

    Raises:
      WeightsError: two tensors that differ in nothing else.
    """
    found: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, value in tensors.items():
        parts = name.split(".")
        short = ".".join([part for part in parts[:-1] if part not in WRAPPERS] + parts[-1:])
        if short in found:
            raise WeightsError(f"{source} holds both {origin[short]} and {name}, two copies of {short}; keep one.")
        found[short], origin[short] = value, name
    return found


def common_prefixes(names: Iterable[str]) -> list[str]:
    """`["", "model.", "model.net."]`: what all names begin with, cut at dots; some of each name is left."""
    names = list(names)
    shared = names[0].split(".")[:-1] if names else []
    for name in names:
        parts = name.split(".")[:-1]
        length = next((i for i, (a, b) in enumerate(zip(shared, parts)) if a != b), min(len(shared), len(parts)))
        shared = shared[:length]
    return ["".join(f"{part}." for part in shared[:length]) for length in range(len(shared) + 1)]
