"""Losses by name. Each returns unreduced values and their weights; see `segjax.losses.base` for the contract."""

from __future__ import annotations

from segjax.core.errors import ConfigError, suggest
from segjax.losses.base import Loss
from segjax.losses.cross_entropy import CrossEntropy
from segjax.losses.cross_entropy_dice import CrossEntropyDice
from segjax.losses.dice import Dice
from segjax.losses.focal import Focal

LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropy,
    "cross_entropy_dice": CrossEntropyDice,
    "dice": Dice,
    "focal": Focal,
}


def get_loss(name: str, **constants: float) -> Loss:
    """The loss of that name, e.g. `get_loss("focal", gamma=1.0)`.

    Args:
      name: a key of `LOSSES`.
      **constants: the fields of that loss.

    Raises:
      ConfigError: no such loss, or no such field of it.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}.{suggest(name, LOSSES)}")
    fields = LOSSES[name].__dataclass_fields__
    for constant in constants:
        if constant not in fields:
            raise ConfigError(f"loss {name!r} has no constant {constant!r}.{suggest(constant, fields)}")
    return LOSSES[name](**constants)
