"""How a key of the configuration is declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


def option(default: Any, doc: str, *, choices: Sequence[Any] = (), minimum: float | None = None) -> Any:
    """A schema field: its default, what it means, the values it may take."""
    metadata = {"doc": doc, "choices": tuple(choices), "minimum": minimum}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
