"""A user's own data: images, label pictures of the same stem, and a list of classes.

Layout, either way round, with any split names:
`SPLIT/images/NAME.*` and `SPLIT/labels/NAME.png`, or `images/SPLIT/NAME.*` and `labels/SPLIT/NAME.png`.
`classes.txt` names one class a line in label order, `name` or `name r g b`. Images are PNG (8 or 16 bits), JPEG, TIFF
or npy with any number of channels; labels are class ids in PNG (palette, grey, 16 bits), TIFF or npy, or pictures in
the colours of `classes.txt`. 255 is void.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import IGNORE
from segjax.data import palettes
from segjax.data.layout import Layout, class_values, find_splits, open_root, take_options

OPTIONS: dict[str, Any] = {
    "classes": None,  # class names, instead of classes.txt
    "channels": None,  # image channels; default: those of the first image, a PNG's alpha dropped
    "ignore": (),  # label values that are void, besides 255
    "values": {},  # label value -> class id, such as {255: 1} for masks stored as 0 and 255
    "label_suffix": "",  # what label stems carry after the image's stem, such as "_mask"
    "statistics": "auto",  # mean and std: "imagenet", "data" (measured), "auto" = imagenet for 8-bit RGB
}


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists a folder; see the module's docstring for what is expected under `root`."""
    chosen = take_options("folder", options, OPTIONS)
    path = open_root("folder", root)
    classes, palette, coloured = _classes(path, chosen["classes"])
    splits, orphans = find_splits(
        "folder",
        path,
        _folders(path),
        "SPLIT/images with SPLIT/labels, or images/SPLIT with labels/SPLIT",
        suffix=chosen["label_suffix"],
    )
    return Layout(
        name="folder",
        root=path,
        classes=classes,
        palette=palette,
        splits=splits,
        values=_values(chosen, len(classes)),
        colours=coloured,
        channels=chosen["channels"],
        statistics=chosen["statistics"],
        orphans=orphans,
    )


def _folders(path: Path) -> dict[str, tuple[Path, Path, None]]:
    """split -> (images, labels): in the order train, val, test, then the others by name."""
    names = {p.parent.name for p in path.glob("*/images")} | {p.name for p in path.glob("images/*") if p.is_dir()}
    order = ("train", "val", "test")
    ordered = sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
    folders: dict[str, tuple[Path, Path, None]] = {}
    for name in ordered:
        outer = path / name / "images"
        folders[name] = (
            (outer, path / name / "labels", None)
            if outer.is_dir()
            else (
                path / "images" / name,
                path / "labels" / name,
                None,
            )
        )
    return folders


def _classes(path: Path, given: Any) -> tuple[tuple[str, ...], palettes.Palette, bool]:
    """Names, colours, and whether the colours were written down."""
    if given:
        names = tuple(str(name) for name in given)
        return names, palettes.distinct(len(names)), False
    listing = path / "classes.txt"
    if not listing.is_file():
        raise DataError(
            f"{listing}: no such file; write one class a line (`name` or `name r g b`), or set data.options.classes."
        )
    try:
        lines = listing.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{listing}: cannot be read ({error}); save it as UTF-8 text.") from error
    names, colours = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) >= 4 and all(word.isdigit() for word in words[-3:]):
            colour = tuple(int(word) for word in words[-3:])
            if max(colour) > 255:
                raise DataError(f"{listing}: line {number}: colour {colour} leaves 0..255.")
            colours.append(colour)
            words = words[:-3]
        names.append(" ".join(words))
    if not names or len(names) > IGNORE:
        raise DataError(f"{listing}: {len(names)} classes; segjax takes 1 to {IGNORE} (255 is void).")
    if colours and len(colours) != len(names):
        raise DataError(f"{listing}: {len(colours)} of {len(names)} classes have a colour; give all or none.")
    repeated = [c for c, n in ((c, colours.count(c)) for c in colours) if n > 1]
    if repeated:
        raise DataError(f"{listing}: colour {repeated[0]} stands for two classes; give each its own.")
    return tuple(names), tuple(colours) or palettes.distinct(len(names)), bool(colours)


def _values(chosen: Mapping[str, Any], count: int) -> dict[int, int]:
    """The map from label values to class ids."""
    ignore = chosen["ignore"]
    ignore = (ignore,) if isinstance(ignore, int) else tuple(ignore)
    try:
        mapped = {int(value): int(ident) for value, ident in dict(chosen["values"]).items()}
    except (TypeError, ValueError) as error:
        raise ConfigError("config.data.options.values: not a dict of whole numbers, such as {255: 1}.") from error
    for value, ident in itertools.chain(mapped.items(), ((value, IGNORE) for value in ignore)):
        if not 0 <= value < 65536 or not (0 <= ident < count or ident == IGNORE):
            raise ConfigError(
                f"config.data.options: label value {value} -> class {ident} is outside values 0..65535 and"
                f" classes 0..{count - 1} (or {IGNORE} = void)."
            )
    return {**class_values(count, dict.fromkeys(ignore, IGNORE)), **mapped}
