"""Cityscapes' label ids: `gtFine/SPLIT/CITY/*_gtFine_labelIds.png` with `leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`.

The 34 ids become the 19 train ids by the official table, all others void. `*_labelTrainIds.png` are read where there
are no label ids. Colour pictures are not read: several ids share a colour. Source: helpers/labels.py of
mcordts/cityscapesScripts.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.annotations.class_list import ClassList, Declared
from segjax.data.annotations.masks import by_value, read_mask
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size, Source
from segjax.data.annotations.tally import Dropped, Tally

# id, name, colour of the 19 classes in the order of their train ids.
_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
NAMES = tuple(name for _, name, _ in _CLASSES)
LABEL_IDS = {**dict.fromkeys(range(34), IGNORE), **{ident: train for train, (ident, _, _) in enumerate(_CLASSES)}}
"""Label id -> train id, or 255. 255 itself is no label id: it would mean that the file holds train ids."""
TRAIN_IDS = {**{train: train for train in range(len(_CLASSES))}, IGNORE: IGNORE}

_LABELS = ("gtFine", "gtCoarse")
_KINDS = (("labelIds", LABEL_IDS), ("labelTrainIds", TRAIN_IDS))
_SPLITS = ("train", "val")  # the labels of test hold no class


def read(path: Path, images: Path | None, root: Path, tally: Tally, *, split: str | None = None) -> Source:
    """Reads a folder in the Cityscapes layout.

    Args:
      path: the folder that holds gtFine (or gtCoarse) and leftImg8bit, or one above it.
      images: leftImg8bit, where it is elsewhere.
      root: the data set's folder, in which no image is looked for.
      tally: takes what is dropped.
      split: the split to take; None takes train and val, as far as they are there.

    Raises:
      DataError: it is no such folder, has no such split, or has colour pictures only.
    """
    labels = _below(path, _LABELS)
    pictures_folder = images or _below(path, ("leftImg8bit",))
    folders = ImageFolders([pictures_folder], given=True, leave_out=root)
    there = sorted(folder.name for folder in labels.iterdir() if folder.is_dir())
    chosen = [split] if split else [name for name in _SPLITS if name in there]
    if not chosen or any(name not in there for name in chosen):
        raise DataError(f"{labels}: splits {', '.join(there) or 'none'}; choose one with --split.")
    if "test" in there and "test" not in chosen:
        tally.note("split left out, as its labels hold no class (--split test takes it)", "test")
    pictures = []
    for name in chosen:
        pictures += _pictures(labels, name, folders, tally)
    if not pictures and not tally.dropped:
        coloured = any(labels.glob("*/*/*_color.png"))
        what = "colour pictures only; make labelIds of the polygons (createLabels of cityscapesScripts)"
        raise DataError(f"{labels}: {what if coloured else 'no *_labelIds.png in ' + ', '.join(chosen)}.")
    colours = tuple(colour for _, _, colour in _CLASSES)
    return Source(pictures, Declared(NAMES, colours, background=False, fixed=True))


def _below(path: Path, names: tuple[str, ...]) -> Path:
    """The folder of one of the names: `path` itself, in it, or one further down (the unpacked archives)."""
    found = [folder for folder in (path, *(path / name for name in names)) if folder.name in names and folder.is_dir()]
    found += [folder for name in names for folder in sorted(path.glob(f"*/{name}")) if folder.is_dir()]
    if not found:
        raise DataError(f"{path}: no folder {' or '.join(names)} in it; expected gtFine and leftImg8bit.")
    return found[0]


def _pictures(labels: Path, split: str, folders: ImageFolders, tally: Tally) -> list[Picture]:
    files: dict[str, tuple[Path, dict[int, int]]] = {}
    for kind, table in _KINDS:
        for path in sorted(labels.glob(f"{split}/*/*_{kind}.png")):
            city = path.parent.name
            files.setdefault(f"{city}/{path.name.removesuffix(f'_{labels.name}_{kind}.png')}", (path, table))
    pictures = []
    for name, (path, table) in sorted(files.items()):
        try:
            file = _image(f"{split}/{name}_leftImg8bit", folders, tally)
        except Dropped as drop:
            tally.drop(drop.kind, drop.example)
            continue
        pictures.append(Picture(f"{name}{file.suffix}", file, functools.partial(_draw, path, table), split=split))
    return pictures


def _image(name: str, folders: ImageFolders, tally: Tally) -> Path:
    for suffix in (".png", ".jpg"):
        path = folders.inside(folders.folders[0] / (name + suffix))
        if path is not None:
            return folders.find(str(path), tally)
    raise Dropped("image missing on disk", f"{name}.png")


def _draw(path: Path, table: dict[int, int], size: Size, classes: ClassList, tally: Tally) -> np.ndarray:
    mask = read_mask(path)
    if mask.ids is None:
        raise Dropped("mask that holds colours, not ids", str(path))
    idents = [classes.ident(name) for name in NAMES]
    return by_value(
        mask.ids, {value: train if train == IGNORE else idents[train] for value, train in table.items()}, path
    )
