"""Pascal VOC's layout: `JPEGImages`, `SegmentationClass`, `ImageSets/Segmentation/SPLIT.txt`.

Masks are palette PNGs whose indices are VOC's 21 classes, 255 being void; or pictures in the classes' colours, as
CVAT and others export them, with their list in `labelmap.txt` (`name:r,g,b:...`) or `class_names.txt`. Where a
palette has other colours at the indices than the list, its colours count. Boxes (`Annotations/*.xml`) are no masks
and are not read.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.annotations.class_list import BACKGROUND, ClassList, Declared, check_names, read_names, tidy
from segjax.data.annotations.masks import Mask, by_colour, by_value, read_mask
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size, Source
from segjax.data.annotations.tally import Dropped, Tally
from segjax.data.palettes import Palette

NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 21 classes of VOC 2012, in label order."""

VOID = (224, 224, 192)
"""VOC's colour of border and difficult objects, index 255."""

_MASKS = ("SegmentationClass", "SegmentationClassPNG")  # the second is labelme's
_IMAGES = ("JPEGImages", "images")
_SPLITS = ("train", "val", "test")


def palette(count: int) -> Palette:
    """VOC's colours of the first `count` indices: the bits of an index, three by three, are the high bits of r, g, b.
    Source: VOClabelcolormap of the VOC development kit."""
    colours = []
    for index in range(count):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
        colours.append((colour[0], colour[1], colour[2]))
    return tuple(colours)


def read(
    path: Path, images: Path | None, root: Path, tally: Tally, *, classes: Path | None = None, split: str | None = None
) -> Source:
    """Reads a folder in VOC's layout, or the one that is inside `path` (VOCdevkit).

    Args:
      path: the folder.
      images: where the images are; None takes `JPEGImages`.
      root: the data set's folder, in which no image is looked for.
      tally: takes what is dropped.
      classes: a list of the classes that the mask values mean; None takes the folder's own, or else VOC's.
      split: the list of names to take; None takes train, val and test, as far as there are such lists.

    Raises:
      DataError: it is no such folder, or has no such list.
    """
    folder, masks = _locate(path)
    inside = next((folder / name for name in _IMAGES if (folder / name).is_dir()), folder)
    folders = ImageFolders([images or inside], given=images is not None, leave_out=root)
    names, colours = _classes(folder, classes)
    pictures = []
    for name, chosen in _listed(folder, masks, split, tally):
        mask = masks / f"{name}.png"
        try:
            if ".." in Path(name).parts or Path(name).is_absolute():
                raise Dropped("name that leads outside the source", name)
            if not mask.is_file():
                raise Dropped("mask missing on disk", str(mask))
            file = _image(name, folders, tally)
        except Dropped as drop:
            tally.drop(drop.kind, drop.example)
            continue
        draw = functools.partial(_draw, mask, names, colours)
        pictures.append(Picture(folders.name_of(file), file, draw, split=chosen))
    return Source(pictures, Declared(names, colours, background=BACKGROUND in names, fixed=True))


def _locate(path: Path) -> tuple[Path, Path]:
    """The folder that has the masks, and the folder of them."""
    places = [
        path,
        *sorted(p for p in path.glob("*") if p.is_dir()),
        *sorted(p for p in path.glob("*/*") if p.is_dir()),
    ]
    found = [(place, place / name) for place in places for name in _MASKS if (place / name).is_dir()]
    if not found:
        if any(path.glob("Annotations/*.xml")) or any(path.glob("*/Annotations/*.xml")) or any(path.glob("*.xml")):
            raise DataError(f"{path}: boxes (Annotations/*.xml) but no SegmentationClass; boxes are no label maps.")
        raise DataError(f"{path}: no folder SegmentationClass in it; give the folder that holds JPEGImages beside it.")
    folders = list(dict.fromkeys(place for place, _ in found))
    if len(folders) > 1:
        raise DataError(f"{path}: both {folders[0]} and {folders[1]} have masks; give one of them.")
    return found[0]


def _classes(folder: Path, given: Path | None) -> tuple[tuple[str, ...], Palette]:
    """Names and mask colours by id."""
    if given is not None:
        names, colours = read_names(given)
        return names, colours or palette(len(names))
    if (folder / "labelmap.txt").is_file():
        return _label_map(folder / "labelmap.txt")
    if (folder / "class_names.txt").is_file():
        names, colours = read_names(folder / "class_names.txt")
        return names, colours or palette(len(names))
    return NAMES, palette(len(NAMES))


def _label_map(path: Path) -> tuple[tuple[str, ...], Palette]:
    """Lines `name:r,g,b:parts:actions`, as CVAT writes them; without a colour it is VOC's of the line."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the class list cannot be read ({error}); save it as UTF-8 text.") from error
    names, colours = [], []
    for line in (line for line in lines if not line.startswith("#")):
        fields = line.rsplit(":", 3) if line.count(":") >= 3 else line.split(":")
        names.append(tidy(fields[0]))
        numbers = fields[1].split(",") if len(fields) > 1 and fields[1].strip() else palette(len(names))[-1]
        try:
            red, green, blue = (int(number) for number in numbers)
        except ValueError as error:
            raise DataError(f"{path}: {line!r} is not `name:r,g,b:parts:actions`.") from error
        colours.append((red, green, blue))
    check_names(names, str(path))
    if not names or len(set(colours)) < len(colours):
        raise DataError(f"{path}: no classes, or two of the same colour.")
    return tuple(names), tuple(colours)


def _listed(folder: Path, masks: Path, split: str | None, tally: Tally) -> list[tuple[str, str | None]]:
    """(image name, split) of the lists."""
    lists = folder / "ImageSets" / "Segmentation"
    there = {path.stem: path for path in sorted(lists.glob("*.txt"))} if lists.is_dir() else {}
    if not there:
        tally.note("masks without lists of splits (ImageSets/Segmentation)", str(folder))
        return [(path.relative_to(masks).with_suffix("").as_posix(), None) for path in sorted(masks.rglob("*.png"))]
    chosen = [split] if split else [name for name in _SPLITS if name in there]
    if not split and not chosen and len(there) == 1:
        chosen = list(there)  # CVAT's default.txt
    if not chosen or any(name not in there for name in chosen):
        raise DataError(f"{lists}: lists of {', '.join(there)}; choose one with --split.")
    listed: dict[str, str | None] = {}
    for name in chosen:
        try:
            lines = there[name].read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{there[name]}: cannot be read ({error}).") from error
        for entry in (line.strip() for line in lines if line.strip()):
            if entry in listed:
                tally.drop("name that is listed twice (the first is taken)", f"{entry} in {name}.txt")
            else:
                listed[entry] = name if name in _SPLITS or split else None
    return list(listed.items())


def _image(name: str, folders: ImageFolders, tally: Tally) -> Path:
    missing = Dropped("image missing on disk", name)
    for suffix in (".jpg", ".png", ".jpeg", ".JPG", ".bmp", ".tif"):
        try:
            return folders.find(name + suffix, tally)
        except Dropped as drop:
            if drop.kind == "image name that fits several files":
                raise
            missing = Dropped(drop.kind, name)
    raise missing


def _draw(
    path: Path, names: tuple[str, ...], colours: Palette, size: Size, classes: ClassList, tally: Tally
) -> np.ndarray:
    idents = [classes.ident(name) for name in names]
    table = {index: ident for index, ident in enumerate(idents) if ident is not None}
    return by_value(_indices(read_mask(path), colours, path, tally), {**table, IGNORE: IGNORE}, path)


def _indices(mask: Mask, colours: Palette, path: Path, tally: Tally) -> np.ndarray:
    """[H, W] positions in the class list, 255 = void."""
    if mask.colours is not None:
        return by_colour(mask.colours, colours, VOID, path)
    if mask.palette is None:
        return mask.ids
    used = [index for index in np.unique(mask.ids).tolist() if index != IGNORE]
    if all(
        index < min(len(colours), len(mask.palette)) and tuple(mask.palette[index].tolist()) == colours[index]
        for index in used
    ):
        return mask.ids
    if max(used, default=0) >= len(mask.palette):
        raise Dropped("mask with values outside the class list", f"{path} (an index without a colour)")
    if all(len(set(mask.palette[index].tolist())) == 1 for index in used):
        tally.note("mask with a palette of greys, read by its indices", str(path))
        return mask.ids
    tally.note("mask with another palette, read by its colours", str(path))
    full = np.zeros((256, 3), np.uint8)
    full[: len(mask.palette)] = mask.palette
    full[IGNORE] = VOID
    return by_colour(full[mask.ids], colours, VOID, path)
