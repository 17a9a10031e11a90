"""A user's own data: images, label pictures of the same stem, and a list of classes.

Layout, either way round, with any split names:
`SPLIT/images/NAME.*` and `SPLIT/labels/NAME.png`, or `images/SPLIT/NAME.*` and `labels/SPLIT/NAME.png`.
`classes.txt` names one class a line in label order, `name` or `name r g b`. Images are PNG (8 or 16 bits), JPEG, TIFF,
BMP, WebP or npy with any number of channels; labels are class ids in PNG (palette, grey, 16 bits), TIFF, BMP or npy, or
pictures in the colours of `classes.txt`. 255 is void.

`SPLIT/instances/NAME.png` (or `instances/SPLIT`) are pictures of ids, 0 where no instance is; `SPLIT/panoptic/NAME.png`
hold class * 1000 + number for every pixel. `things.txt` names the classes that have instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segjax.core.errors import ConfigError, suggest
from segjax.core.schema import IGNORE, INSTANCE, LABEL
from segjax.data import palettes
from segjax.data.builders import folder_instances
from segjax.data.class_list import check_names, read_class_list
from segjax.data.instances.options import check_instance_options
from segjax.data.layout import Layout, class_values, in_order, open_root, take_options

OPTIONS: dict[str, Any] = {
    "classes": None,  # class names, instead of classes.txt
    "channels": None,  # image channels; default: those of the first image, an alpha channel dropped
    "ignore": (),  # what is void besides 255: label values, or colours (r, g, b) of label pictures
    "values": {},  # label value -> class id, such as {255: 1} for masks stored as 0 and 255
    "palettes": "auto",  # palette labels count by "indices", by "colours", or by which of the two fits classes.txt
    "nodata": None,  # image values that are no measurement, besides a TIFF's own; "none": not that one, either
    "label_suffix": "",  # what label stems carry after the image's stem, such as "_mask"
    "statistics": "auto",  # mean and std: "imagenet", "data" (measured), "auto" = imagenet for 8-bit RGB
    **folder_instances.OPTIONS,
}
PALETTES = ("auto", "indices", "colours")


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists a folder; see the module's docstring for what is expected under `root`."""
    chosen = take_options("folder", options, OPTIONS)
    check_instance_options(chosen)
    path = open_root("folder", root)
    splits = _splits(path)
    kinds = folder_instances.kinds_of(path, splits, chosen["annotations"])
    classes, palette, coloured = _classes(path, chosen["classes"], single=kinds == (INSTANCE,))
    things = folder_instances.things_of(path, classes, kinds, chosen["things"])
    folder_instances.check_factor(chosen["factor"], kinds, things)
    void, void_colours = _ignored(chosen["ignore"], coloured)
    if chosen["palettes"] not in PALETTES:
        near = suggest(str(chosen["palettes"]), PALETTES)
        raise ConfigError(f"config.data.options.palettes: {chosen['palettes']!r} is not one of {PALETTES}.{near}")
    if chosen["palettes"] == "colours" and not coloured:
        raise ConfigError("config.data.options.palettes: 'colours' needs those of classes.txt, as `name r g b`.")
    if not isinstance(chosen["label_suffix"], str):
        raise ConfigError(f"config.data.options.label_suffix: {chosen['label_suffix']!r} is no text, such as '_mask'.")
    values = _values(chosen["values"], void, len(classes))
    stated = frozenset(values)
    values = {**class_values(len(classes)), **values}
    found = folder_instances.find(path, splits, kinds, chosen["label_suffix"])
    found = folder_instances.with_readers(found, path, kinds, things, values, chosen["factor"])
    return Layout(
        name="folder",
        root=path,
        classes=classes,
        palette=palette,
        values=values,
        colours=coloured,
        channels=chosen["channels"],
        statistics=chosen["statistics"],
        stated=stated,
        void_colours=void_colours,
        palettes=chosen["palettes"],
        nodata=_nodata(chosen["nodata"]),
        annotations=(LABEL, INSTANCE) if kinds == ("panoptic",) else kinds,
        things=things,
        max_instances=chosen["max_instances"],
        lists=(path / "things.txt",) if things and (path / "things.txt").is_file() else (),
        skip_bad=chosen["skip_bad"],
        **found._asdict(),
    )


def _splits(path: Path) -> list[str]:
    return in_order(
        {p.parent.name for p in path.glob("*/images")} | {p.name for p in path.glob("images/*") if p.is_dir()}
    )


def _classes(path: Path, given: Any, single: bool) -> tuple[tuple[str, ...], palettes.Palette, bool]:
    """Names, colours, and whether the colours were written down; `single`: one class is enough."""
    if given:
        if isinstance(given, str) or not isinstance(given, list | tuple):
            raise ConfigError(f"config.data.options.classes: {given!r} is no list of names, such as ('road', 'sky').")
        names = tuple(str(name) for name in given)
        check_names(names, "config.data.options.classes", single)
        return names, palettes.distinct(len(names)), False
    names, colours = read_class_list(path / "classes.txt", single)
    return names, colours or palettes.distinct(len(names)), colours is not None


def _ignored(given: Any, coloured: bool) -> tuple[dict[int, int], palettes.Palette]:
    """Option `ignore` as {value: IGNORE} and void colours."""
    items = given if isinstance(given, list | tuple) else (given,)
    if len(items) == 3 and all(_is_byte(item) for item in items) and (coloured or len(set(items)) < 3):
        raise ConfigError(
            f"config.data.options.ignore: {given!r} may be three label values or one colour; write"
            f" ignore=({tuple(items)},) for the colour, values={{{', '.join(f'{v}: 255' for v in sorted(set(items)))}}}"
            " for the values."
        )
    values, colours = {}, []
    for item in items:
        if isinstance(item, list | tuple) and len(item) == 3 and all(_is_byte(part) for part in item):
            colours.append(tuple(item))
        elif isinstance(item, int) and not isinstance(item, bool):
            values[item] = IGNORE
        else:
            raise ConfigError(
                f"config.data.options.ignore: {item!r} is neither a label value nor a colour (r, g, b) of 0..255; write"
                " ignore=-1 or ignore=((0, 0, 0),)."
            )
    return values, tuple(colours)


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _values(given: Any, void: Mapping[int, int], count: int) -> dict[int, int]:
    """What the user says of label values: {value: class id or IGNORE}."""
    try:
        mapped = {_whole(value): _whole(ident) for value, ident in dict(given).items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError("config.data.options.values: not a dict of whole numbers, such as {255: 1}.") from error
    for value, ident in mapped.items():
        if not (0 <= ident < count or ident == IGNORE):
            raise ConfigError(
                f"config.data.options: label value {value} -> class {ident} is outside classes 0..{count - 1} (or"
                f" {IGNORE} = void)."
            )
    both = sorted(value for value in void if mapped.get(value, IGNORE) != IGNORE)
    if both:
        raise ConfigError(f"config.data.options: label value {both[0]} is in both values and ignore; keep one.")
    return {**void, **mapped}


def _whole(value: Any) -> int:
    """`value`, a number or its text; ValueError where it is not a whole one."""
    number = int(value)
    if isinstance(value, bool) or (not isinstance(value, str) and number != value):
        raise ValueError(value)
    return number


def _nodata(given: Any) -> Any:
    if given is None or given == "none":
        return given
    items = given if isinstance(given, list | tuple) else (given,)
    try:
        return tuple(float(item) for item in items)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"config.data.options.nodata: {given!r} is no number; write -9999, 'nan', a tuple of them, or 'none'."
        ) from error
