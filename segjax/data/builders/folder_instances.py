"""The instances of a `folder`: pictures of ids beside the images, and which classes have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.core.schema import INSTANCE, LABEL
from segjax.data.class_list import parse_class_list
from segjax.data.instances.pictures import IdReader
from segjax.data.layout import LABEL_SUFFIXES, MAX_INSTANCES, Splits, find_splits, list_files

OPTIONS: dict[str, Any] = {
    "annotations": None,  # which of "label", "instance", "panoptic" to read; default: what is there
    "things": None,  # names of the classes that have instances, instead of things.txt
    "factor": None,  # ids are class value * factor + number: 1000 for Cityscapes, 256 for KITTI
    "max_instances": MAX_INSTANCES,  # of an image; the largest stay
    "skip_bad": False,  # leave out bad ids and count them, instead of refusing them
}
FOLDERS = {LABEL: "labels", INSTANCE: "instances", "panoptic": "panoptic"}
PANOPTIC_FACTOR = 1000


def kinds_of(root: Path, splits: list[str], given: Any) -> tuple[str, ...]:
    """What a folder is to be read for: `label`, `instance`, both, or `panoptic`."""
    if given is not None:
        asked = (given,) if isinstance(given, str) else given
        wrong = [kind for kind in asked if kind not in FOLDERS] if isinstance(asked, list | tuple) else [given]
        if wrong or not asked:
            near = suggest(str(wrong[0]), FOLDERS) if wrong else ""
            raise ConfigError(f"config.data.options.annotations: {given!r}: not among {tuple(FOLDERS)}.{near}")
        kinds = tuple(kind for kind in FOLDERS if kind in asked)
    else:
        kinds = tuple(
            kind
            for kind, name in FOLDERS.items()
            if any((root / split / name).is_dir() or (root / name / split).is_dir() for split in splits)
        ) or (LABEL,)
    if "panoptic" in kinds and len(kinds) > 1:
        raise ConfigError(
            f"config.data.options.annotations: panoptic pictures hold what {' and '.join(kinds[:-1])} do; name one way."
        )
    return kinds


def find(root: Path, splits: list[str], kinds: tuple[str, ...], suffix: str) -> Splits:
    """The samples of a folder, of which `label` is the label, or where there is none the picture of ids."""
    expected = "SPLIT/images with SPLIT/labels (or instances, or panoptic), or images/SPLIT with labels/SPLIT"
    places = {split: (_place(root, split, "images"), _place(root, split, FOLDERS[kinds[0]]), None) for split in splits}
    return find_splits("folder", root, places, expected, suffix=suffix)


def with_readers(
    found: Splits,
    root: Path,
    kinds: tuple[str, ...],
    things: tuple[int, ...],
    values: Mapping[int, int],
    factor: int | None,
) -> Splits:
    """`find`'s samples with readers of their ids in place of the pictures."""
    if kinds == (LABEL,):
        return found
    panoptic = kinds == ("panoptic",)
    if panoptic and factor is None:
        factor = PANOPTIC_FACTOR
    splits, orphans, unread = {}, list(found.orphans), list(found.unread)
    for split, samples in found.splits.items():
        pictures = {sample.name: sample.label for sample in samples}
        if LABEL in kinds:
            folder = _place(root, split, FOLDERS[INSTANCE])
            listed, others = list_files(folder, LABEL_SUFFIXES) if folder.is_dir() else ({}, ())
            pictures = {sample.name: listed.pop(sample.name, None) for sample in samples}
            orphans += listed.values()
            unread += others
        splits[split] = tuple(
            dataclasses.replace(
                sample,
                label=sample.label if LABEL in kinds else None,
                instances=None if path is None else IdReader(path, things, values, factor, panoptic),
            )
            for sample, path in zip(samples, pictures.values())
        )
    return found._replace(splits=splits, orphans=tuple(orphans), unread=tuple(unread))


def things_of(root: Path, classes: tuple[str, ...], kinds: tuple[str, ...], given: Any) -> tuple[int, ...]:
    """The classes that have instances: of the option, of `things.txt`, or all where there are neither labels nor stuff.

    Raises:
      DataError, ConfigError: a name that is no class's; nothing that says which.
    """
    if kinds == (LABEL,):
        return ()
    path, where = root / "things.txt", "config.data.options.things"
    if given is not None:
        names = (given,) if isinstance(given, str) else tuple(given)
    elif path.is_file():
        names, where = parse_class_list(path).names, str(path)
    elif kinds == (INSTANCE,):
        return tuple(range(len(classes)))
    else:
        raise DataError(
            f"{path}: no such file; write the names of the classes that have instances, one a line, or set"
            " data.options.things."
        )
    for name in names:
        if name not in classes:
            raise DataError(f"{where}: {name!r} is no class of the set.{suggest(str(name), classes)}")
    if not names:
        raise DataError(f"{where}: it names no class.")
    return tuple(sorted({classes.index(name) for name in names}))


def check_factor(factor: Any, kinds: tuple[str, ...], things: tuple[int, ...]) -> None:
    """ConfigError for a factor that is none, or that is needed to tell classes."""
    if factor is not None and (type(factor) is not int or factor < 2):
        raise ConfigError(f"config.data.options.factor: {factor!r} is not a number from 2 on, such as 1000.")
    if kinds == (INSTANCE,) and factor is None and len(things) > 1:
        raise ConfigError(
            "config.data.options.factor: ids of several classes say theirs as class * factor + number; set factor=1000"
            " (Cityscapes) or 256 (KITTI), or put labels beside the instances."
        )


def _place(root: Path, split: str, kind: str) -> Path:
    outer = (root / split / "images").is_dir()
    return root / split / kind if outer else root / kind / split
