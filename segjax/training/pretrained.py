"""Initial variables from another run's checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from segjax.core.config import Init
from segjax.core.errors import CheckpointError, ConfigError, suggest
from segjax.core.paths import named_leaves, path_name
from segjax.training.checkpoint import read_checkpoint

SHOWN = 3  # culprits an error names


def pretrained(config: Init, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The network's fresh variables with a checkpoint's in their place; averaged parameters where the run kept them.

    Strict both ways: each array of the checkpoint has a place, and each variable below `config.into` has an array, of
    its shape. What `config.skip` finds, in paths of this network such as `encoder/stem/conv/kernel`, is left out of
    both.

    Args:
      config: `config.init` of the run, with a checkpoint.
      variables: `params` and the other collections, as host arrays.

    Raises:
      CheckpointError: no whole checkpoint there; arrays without a place, variables without an array, other shapes.
      ConfigError: `into` is no submodule; a broken regex, or one that finds nothing.
    """
    saved = read_checkpoint(config.checkpoint, config.which)
    inner = "".join(f"{part}/" for part in config.into.split("/") if part)
    flat = named_leaves(dict(variables))
    ours = {name: leaf for name, leaf in flat.items() if _in_network(name).startswith(inner)}
    if not ours:
        modules = {_in_network(name).split("/")[0] for name in flat}
        raise ConfigError(
            f"config.init.into: the network has no submodule {config.into!r}.{suggest(inner[:-1], modules)}"
        )
    theirs = {}
    for whole, leaf in named_leaves(saved.variables).items():
        collection, _, name = whole.partition("/")
        theirs[f"{collection}/{inner}{name}"] = leaf

    skipped = _skipped(config.skip, {*ours, *theirs})
    ours = {name: leaf for name, leaf in ours.items() if name not in skipped}
    theirs = {name: leaf for name, leaf in theirs.items() if name not in skipped}
    where = f"config.init.checkpoint: {config.checkpoint} (step {saved.step})"
    left, missing = [name for name in theirs if name not in ours], [name for name in ours if name not in theirs]
    if left:
        raise CheckpointError(
            f"{where} has {_named(left)} that the network has not; is config.init.into the submodule it is for, and "
            "the network the one it was trained with? What is to be left out goes into config.init.skip."
        )
    if missing:
        raise CheckpointError(
            f"{where} lacks {_named(missing)} of the network; what is to start fresh goes into config.init.skip."
        )
    for name, leaf in theirs.items():
        if leaf.shape != np.shape(ours[name]):
            raise CheckpointError(
                f"{where}: {_in_network(name)} has shape {list(leaf.shape)} there and {list(np.shape(ours[name]))} "
                f"here; config.init.skip=({_in_network(name)!r},) leaves it fresh."
            )
    return jax.tree_util.tree_map_with_path(lambda path, leaf: theirs.get(path_name(path), leaf), dict(variables))


def _in_network(name: str) -> str:
    """`params/stem/kernel` -> `stem/kernel`, as optimiser regexes see it."""
    return name.partition("/")[2]


def _skipped(patterns: Iterable[str], names: set[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        try:
            hits = {name for name in names if re.search(pattern, _in_network(name))}
        except re.error as error:
            raise ConfigError(f"config.init.skip: {pattern!r} is no regular expression: {error}.") from error
        if not hits:
            raise ConfigError(
                f"config.init.skip: {pattern!r} finds nothing; paths look like {_in_network(min(names))!r}."
            )
        found |= hits
    return found


def _named(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{rest}"
