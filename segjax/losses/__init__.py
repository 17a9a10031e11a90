"""Losses by name. Each returns unreduced values and their weights; see `segjax.losses.base` for the contract."""

from __future__ import annotations

from typing import Any

from segjax.core.errors import ConfigError, suggest
from segjax.losses.base import Loss
from segjax.losses.bootstrapped import Bootstrapped
from segjax.losses.boundary import Boundary
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.cross_entropy_dice import CrossEntropyDice
from segjax.losses.dice import Dice
from segjax.losses.focal import Focal
from segjax.losses.focal_tversky import FocalTversky
from segjax.losses.generalised_dice import GeneralisedDice
from segjax.losses.lovasz_hinge import LovaszHinge
from segjax.losses.lovasz_softmax import LovaszSoftmax
from segjax.losses.ohem import OHEM
from segjax.losses.tversky import Tversky

LOSSES: dict[str, type[Loss]] = {
    "bootstrapped": Bootstrapped,
    "boundary": Boundary,
    "cross_entropy": CrossEntropy,
    "cross_entropy_dice": CrossEntropyDice,
    "dice": Dice,
    "focal": Focal,
    "focal_tversky": FocalTversky,
    "generalised_dice": GeneralisedDice,
    "lovasz_hinge": LovaszHinge,
    "lovasz_softmax": LovaszSoftmax,
    "ohem": OHEM,
    "tversky": Tversky,
}


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
    fields = LOSSES[name].__dataclass_fields__
    for constant in constants:
        if constant not in fields:
            raise ConfigError(f"loss {name!r} has no constant {constant!r}.{suggest(constant, fields)}")
    return LOSSES[name](**constants)
