"""Losses by name, each in the file of that name; they return unreduced values and weights (`segjax.losses.base`).

Nothing heavy is imported before a loss is asked for, so that configs can be checked against the names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segjax.core.errors import ConfigError, suggest

if TYPE_CHECKING:
    from segjax.losses.base import Loss

LOSSES = {
    "bootstrapped": "Bootstrapped",
    "boundary": "Boundary",
    "cross_entropy": "CrossEntropy",
    "cross_entropy_dice": "CrossEntropyDice",
    "dice": "Dice",
    "focal": "Focal",
    "focal_tversky": "FocalTversky",
    "generalised_dice": "GeneralisedDice",
    "lovasz_hinge": "LovaszHinge",
    "lovasz_softmax": "LovaszSoftmax",
    "ohem": "OHEM",
    "tversky": "Tversky",
}
"""{name, that of the file: the class in it}."""

CLASS_WEIGHTS = ("none", "auto", "median_frequency", "enet_log")
"""What `segjax.losses.class_weights` can count."""


def get_loss(name: str, **constants: Any) -> Loss:
    """The loss of that name, e.g. `get_loss("focal", gamma=1.0)`.

    Args:
      name: a key of `LOSSES`.
      **constants: the fields of that loss, numbers.

    Raises:
      ConfigError: no such loss, no such field of it, or a value the field cannot take.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}.{suggest(name, LOSSES)}")
    kind = getattr(importlib.import_module(f"segjax.losses.{name}"), LOSSES[name])
    fields = kind.__dataclass_fields__
    for constant in constants:
        if constant not in fields:
            raise ConfigError(f"loss {name!r} has no constant {constant!r}.{suggest(constant, fields)}")
    return kind(**constants)
