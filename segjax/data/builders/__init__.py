"""Data sets that are prepared, by name. Each module lists one set's own folder layout; `base` turns any of them into a
tfds builder."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.data.layout import Layout

NAMES = ("camvid", "coco", "crackforest", "drive", "folder", "isbi2012")
DRAWN = ("clouds", "scenes")
AS_THEY_ARE = ("shapenet_part",)
STATISTICS = ("auto", "data", "imagenet")


def layout(name: str, root: str | Path | None, options: Mapping[str, Any] | None = None) -> Layout:
    """Lists the files of data set `name` under `root`; opens no image.

    Raises:
      DataError: for an unknown name, a missing folder, or one that is laid out differently.
      ConfigError: for an option that the set does not have, or a value it cannot take.
    """
    listed = _module(name).layout(root, options or {})
    if listed.statistics not in STATISTICS:
        near = suggest(str(listed.statistics), STATISTICS)
        raise ConfigError(f"config.data.options.statistics: {listed.statistics!r} is not one of {STATISTICS}.{near}")
    if listed.channels is not None and (type(listed.channels) is not int or listed.channels < 1):
        raise ConfigError(f"config.data.options.channels: {listed.channels!r} is not a number of channels.")
    return listed


def files(name: str, root: str | Path | None, options: Mapping[str, Any] | None = None) -> list[Path] | None:
    """Every file that the prepared copy of a set depends on, where listing the set takes long; else None.

    Raises:
      DataError, ConfigError: as `layout`.
    """
    quick = getattr(_module(name), "files", None)
    return None if quick is None else quick(root, options or {})


def _module(name: str) -> Any:
    if name in DRAWN:
        raise DataError(f"data set {name!r} is drawn when it is read: it has no files to prepare or check.")
    if name in AS_THEY_ARE:
        raise DataError(f"data set {name!r} is read from its files as they are: there is nothing to prepare.")
    if name not in NAMES:
        raise DataError(f"data set {name!r} is unknown.{suggest(name, (*DRAWN, *AS_THEY_ARE, *NAMES))}")
    return importlib.import_module(f"segjax.data.builders.{name}")
