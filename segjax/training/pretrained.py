"""Initial variables from another run's checkpoint."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from segjax.core.classes import first_difference
from segjax.core.config import Init
from segjax.core.errors import CheckpointError, ConfigError, ModelError, suggest
from segjax.core.paths import named_leaves, path_name
from segjax.core.registry import create_model
from segjax.core.schema import DatasetInfo
from segjax.training.checkpoint import Saved, read_checkpoint

SHOWN = 3  # culprits an error names

log = logging.getLogger("segjax")


def pretrained(config: Init, variables: Mapping[str, Any], info: DatasetInfo | None = None) -> dict[str, Any]:
    """The network's fresh variables with a checkpoint's in their place; averaged parameters where the run kept them.

    Strict both ways: each array of the checkpoint has a place, and each variable below `config.into` has an array, of
    its shape. What `config.skip` finds, in paths of this network such as `encoder/stem/conv/kernel`, is left out of
    both.

    Args:
      config: `config.init` of the run, with a checkpoint.
      variables: `params` and the other collections, as host arrays.
      info: this run's. Arrays that are the classes', such as a head's, are taken only where the checkpoint's classes
        have the same names in the same order, or `config.classes_differ` says that it does not matter. Pixels that
        the checkpoint's network saw otherwise are told of in a warning.

    Raises:
      CheckpointError: no whole checkpoint there; arrays without a place, variables without an array, other shapes;
        other classes.
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
    if info is not None:
        _check_classes(where, saved, info, {_in_network(name)[len(inner) :]: name for name in theirs}, config)
        _tell_pixels(where, saved.info, info)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: theirs.get(path_name(path), leaf), dict(variables))


def _check_classes(where: str, saved: Saved, info: DatasetInfo, taken: Mapping[str, str], config: Init) -> None:
    """Raises CheckpointError where arrays are taken whose rows or columns are classes of other names.

    Args:
      taken: of each array, by its path in the checkpoint's network, the path here with its collection.
    """
    difference = first_difference(saved.info.classes, info.classes)
    if difference is None or config.classes_differ:
        return
    heads = sorted({_in_network(taken[name]).rpartition("/")[0] for name in _of_classes(saved) if name in taken})
    if heads:
        skip = ", ".join(repr(f"^{head}/") for head in heads)
        raise CheckpointError(
            f"{where} has other classes than {info.name!r}: {difference}; config.init.skip=({skip},) starts what "
            "depends on them anew, config.init.classes_differ=True takes it as it is."
        )


def _of_classes(saved: Saved) -> list[str]:
    """Paths in the checkpoint's network of the arrays whose shape depends on the number of classes.

    Found by making the network for one class more; one that the registry does not make has them where an axis is as
    long as the list of classes.
    """
    count, record = saved.info.num_classes, saved.config.get("model", {})
    whole = {name: np.shape(leaf) for name, leaf in named_leaves(saved.variables).items()}
    try:
        shapes = []
        for classes in (count, count + 1):
            model = create_model(record["name"], classes, saved.info.channels, **record.get("options", {}))
            made = jax.eval_shape(model.init, jax.random.key(0), model.example)
            shapes.append({name: leaf.shape for name, leaf in named_leaves(made).items()})
    except (KeyError, ModelError, AttributeError, TypeError, ValueError):
        shapes = [{}]
    if shapes[0] != whole:
        return [_in_network(name) for name, shape in whole.items() if count in shape]
    return [_in_network(name) for name, shape in whole.items() if shapes[1].get(name) != shape]


def _tell_pixels(where: str, theirs: DatasetInfo, ours: DatasetInfo) -> None:
    fields = ("channels", "image_dtype", "channel_order", "mean", "std")
    for name in fields:
        there, here = getattr(theirs, name), getattr(ours, name)
        same = np.allclose(there, here, rtol=1e-3) if name in ("mean", "std") and len(there) == len(here) else None
        if not (there == here if same is None else same):
            if jax.process_index() == 0:
                log.warning(
                    "%s saw other pixels than this run gives it: %s %s there, %s here.", where, name, there, here
                )
            return


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
