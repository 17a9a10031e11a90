"""Whether a checkpoint belongs to the run that wants to go on from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.config import Config
from segjax.core.errors import CheckpointError
from segjax.core.options import flatten
from segjax.core.schema import DatasetInfo

IDENTITY = ("task", "model", "data", "optim")
HOST_ONLY = ("data.root", "data.cache", "data.threads", "data.prefetch", "data.cache_decoded")
"""Keys of `IDENTITY` that may change between a run and its resumption: they do not touch the result."""


def check_same_run(shown: str | Path, meta: Mapping[str, Any], config: Mapping[str, Any], info: DatasetInfo) -> None:
    """Compares a checkpoint's record with a run's config and data set.

    Args:
      shown: the run's folder, as the user named it.
      meta: the checkpoint's item `meta`.
      config: `core.config.to_dict` of the run's.
      info: the data set's.

    Raises:
      CheckpointError: the first thing that differs: number of classes, key of the config, class name.
    """
    if meta["info"]["classes"] and len(meta["info"]["classes"]) != info.num_classes:
        raise CheckpointError(
            f"{shown}: the checkpoint has {len(meta['info']['classes'])} classes, the config asks "
            f"for {info.num_classes}; use the config it was made with, or another --workdir."
        )
    difference = _first_difference(meta["config"], config)
    if difference:
        key, theirs, ours = difference
        raise CheckpointError(
            f"{shown} holds a checkpoint of another config: {key} is {theirs!r} there and {ours!r} "
            "here; use --resume with the config it was made with, or another --workdir."
        )
    for index, (theirs, ours) in enumerate(zip(meta["info"]["classes"], info.classes)):
        if theirs != ours:
            raise CheckpointError(
                f"{shown} holds a checkpoint of other classes: class {index} is {theirs!r} there and "
                f"{ours!r} in the data set {info.name!r}; give the classes in the order they had, or "
                "another --workdir."
            )


def check_leaves(folder: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Compares {path: [shape, dtype]} of a checkpoint's leaves and a run's; CheckpointError at the first difference."""
    for name in [*ours, *theirs]:
        if name not in theirs:
            raise CheckpointError(f"{folder}: {name} is missing there; resume with the config it was made with.")
        if name not in ours:
            raise CheckpointError(f"{folder}: {name} is left over there; resume with the config it was made with.")
        for what, there, here in zip(("shape", "dtype"), theirs[name], ours[name]):
            if there != here:
                raise CheckpointError(
                    f"{folder}: {name} has {what} {there} there and {here} here; resume with the config it was made "
                    "with."
                )


def _first_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first differing key of the configs' identity, its value there and here."""
    theirs = {"task": Config.task, **theirs}  # which a record from before there were several does not name
    flat_theirs, flat_ours = (dict(flatten({k: c.get(k) for k in IDENTITY})) for c in (theirs, _jsoned(ours)))
    for key in [*flat_ours, *flat_theirs]:
        if key not in HOST_ONLY and flat_theirs.get(key) != flat_ours.get(key):
            return key, flat_theirs.get(key), flat_ours.get(key)
    return None


def _jsoned(record: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(record))
