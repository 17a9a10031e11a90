"""The variants of a sweep."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from segjax.core.config import (
    Config,
    call_config_file,
    from_dict,
    load_config,
    read_config_file,
    set_text,
    set_value,
    to_dict,
)
from segjax.core.errors import ConfigError

_NAME = re.compile(r"[\w.,=+-]+")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One run of a sweep.

    Attributes:
      name: of its folder and its row.
      overrides: {dotted key: value}, what it changes in the config.
      config: the whole, checked.
    """

    name: str
    overrides: Mapping[str, Any]
    config: Config

    @property
    def setting(self) -> str:
        """The name it would have without a seed; runs that share it differ in seed only."""
        return _default_name({key: value for key, value in self.overrides.items() if key != "seed"})


def read_variants(spec: str, texts: Mapping[str, str]) -> list[Variant]:
    """What `sweep(config)` of `FILE.py[:arg]` yields, checked; `texts` are the command line's `key=value`.

    `sweep` gets the checked Config. It yields dicts of dotted key -> value, or pairs (name, dict).

    Raises:
      ConfigError: no `sweep` in the file, nothing in it, a key that does not exist, a value that cannot be, two
        variants that are the same.
    """
    base = load_config(spec, texts)
    path = spec.partition(":")[0]
    try:
        items = call_config_file(path, "sweep", base)
    except ConfigError as error:
        if "has no attribute 'sweep'" not in str(error):
            raise
        raise ConfigError(f"--config: {path} has no sweep(config); define one that yields variants.") from error
    if not isinstance(items, list) or not items:
        raise ConfigError(f"--config: sweep(config) of {path} gave {items!r}; it must yield at least one variant.")
    variants = [_variant(position, item, spec, texts) for position, item in enumerate(items)]
    seen: dict[str, Variant] = {}
    for variant in variants:
        settings = repr({**to_dict(variant.config), "name": None})
        if settings in seen:
            raise ConfigError(
                f"sweep: variants {seen[settings].name!r} and {variant.name!r} are the same run "
                f"({variant.setting}, seed {variant.config.seed}); leave one out."
            )
        if any(other.name == variant.name for other in seen.values()):
            raise ConfigError(f"sweep: two variants are called {variant.name!r}; names are folders, each its own.")
        seen[settings] = variant
    return variants


def _variant(position: int, item: Any, spec: str, texts: Mapping[str, str]) -> Variant:
    name, overrides = item if isinstance(item, list) and len(item) == 2 else (None, item)
    if not isinstance(overrides, Mapping) or not (name is None or isinstance(name, str)):
        raise ConfigError(f"sweep: variant {position} is {item!r}; yield a dict {{key: value}} or a pair (name, dict).")
    name = _default_name(overrides) if name is None else name
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise ConfigError(f"sweep: variant {name!r}: a name is a folder; use letters, digits and any of _.,=+-")
    record = read_config_file(spec)
    for key, text in texts.items():
        set_text(record, key, text)
    record["name"] = f"{record.get('name', Config.name)}-{name}"
    try:
        for key, value in overrides.items():
            set_value(record, key, value)
        return Variant(name, dict(overrides), from_dict(record))
    except ConfigError as error:
        raise ConfigError(f"sweep: variant {name!r}: {error}") from error


def _default_name(overrides: Mapping[str, Any]) -> str:
    """`learning_rate=0.001,seed=1`; whole keys where their last parts coincide."""
    ends = [key.rpartition(".")[2] for key in overrides]
    shown = ends if len(set(ends)) == len(ends) else list(overrides)
    parts = (f"{key}={_short(value)}" for key, value in zip(shown, overrides.values()))
    return re.sub(r"[^\w.,=+-]+", "-", ",".join(parts)) or "base"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
