"""COCO: objects in photographs, each with its outline, or every pixel as a thing or stuff (panoptic).

Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014, arXiv:1405.0312. Kirillov et al. Panoptic
Segmentation. CVPR 2019, arXiv:1801.00868. Any set in COCO's format is read.

Layout: `instances_NAME.json` or `panoptic_NAME.json` with the folder `panoptic_NAME` of PNGs, in `annotations/` or in
the root itself; images in `NAME/` or `images/NAME/`. A split is called NAME without a year: `train2017` is `train`.

Classes are the categories by rising id, samples the images by rising id. An image without annotations is a sample, too.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.core.schema import IGNORE, INSTANCE, LABEL
from segjax.data.annotations.coco import read_categories
from segjax.data.annotations.documents import describe, read_json
from segjax.data.annotations.tally import Tally
from segjax.data.instances.coco import CocoReader
from segjax.data.instances.options import check_instance_options
from segjax.data.instances.pictures import PanopticReader
from segjax.data.layout import MAX_INSTANCES, Layout, Sample, Unread, in_order, open_root, seen, take_options
from segjax.data.palettes import distinct
from segjax.data.problem import Problem

OPTIONS: dict[str, Any] = {
    "annotations": None,  # "instance" or "panoptic"; default: instances where there are both
    "images": None,  # the folder of the images under the root, where it is not called after the split
    "max_instances": MAX_INSTANCES,  # of an image; the largest stay
    "skip_bad": False,  # leave out bad annotations and count them, instead of refusing them
    "channels": 3,  # of the images; grey ones are repeated
    "statistics": "auto",  # as for `folder`
}
KINDS = {INSTANCE: "instances", "panoptic": "panoptic"}
_YEAR = re.compile(r"(.+?)20\d\d")


def layout(root: str | Path | None, options: Mapping[str, Any]) -> Layout:
    """Lists a set in COCO's format; see the module's docstring for what is expected under `root`."""
    chosen = take_options("coco", options, OPTIONS)
    check_instance_options(chosen)
    path = open_root("coco", root)
    kind = _kind(path, chosen["annotations"])
    found, unread = _files(path, kind, chosen["images"])
    parts = {split: _read(file, images, kind) for split, (file, images) in found.items()}
    first = next(iter(parts))
    for split, part in parts.items():
        if part.categories != parts[first].categories:
            raise DataError(
                f"{found[split][0]}: other categories than {found[first][0].name} ({_difference(part, parts[first])});"
                " give both the same list."
            )
    names = tuple(parts[first].categories.values())
    panoptic = kind == "panoptic"
    if panoptic and len(names) > IGNORE:
        raise DataError(f"{found[first][0]}: {len(names)} categories; label maps hold {IGNORE} (255 is void).")
    return Layout(
        name="coco",
        root=path,
        classes=names,
        palette=distinct(len(names)),
        splits={split: part.samples for split, part in parts.items()},
        values={},
        channels=chosen["channels"],
        statistics=chosen["statistics"],
        unread=unread,
        annotations=(LABEL, INSTANCE) if panoptic else (INSTANCE,),
        things=parts[first].things,
        max_instances=chosen["max_instances"],
        lists=tuple(file for file, _ in found.values()),
        problems=tuple(problem for part in parts.values() for problem in part.problems),
        notes=tuple(note for part in parts.values() for note in part.notes),
        skip_bad=chosen["skip_bad"],
    )


def files(root: str | Path | None, options: Mapping[str, Any]) -> list[Path]:
    """Every file that the prepared copy depends on, without reading the lists, which takes long for a large set."""
    chosen = take_options("coco", options, OPTIONS)
    check_instance_options(chosen)
    path, found = open_root("coco", root), []
    kind = _kind(path, chosen["annotations"])
    for file, images in _files(path, kind, chosen["images"])[0].values():
        folders = [images] + ([file.with_suffix("")] if kind == "panoptic" else [])
        found += [file, *(path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file())]
    return list(dict.fromkeys(found))


def _kind(path: Path, given: Any) -> str:
    """Which of `KINDS` to read."""
    if given is None:
        there = [kind for kind, name in KINDS.items() if any(path.glob(f"{name}_*.json"))]
        there += [kind for kind, name in KINDS.items() if any(path.glob(f"annotations/{name}_*.json"))]
        return INSTANCE if INSTANCE in there or not there else "panoptic"
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str) or given not in KINDS:
        near = suggest(str(given), KINDS)
        raise ConfigError(f"config.data.options.annotations: {given!r} is not one of {tuple(KINDS)}.{near}")
    return given


def _files(path: Path, kind: str, given: str | None) -> tuple[dict[str, tuple[Path, Path]], tuple[Unread, ...]]:
    """split -> its JSON file and its images' folder, which `given` may name; and JSON files without such a folder."""
    if given is not None and (not isinstance(given, str) or given.startswith("/") or ".." in Path(given).parts):
        raise ConfigError(f"config.data.options.images: {given!r} is no folder's name under the root.")
    lists = {
        file.stem.removeprefix(f"{KINDS[kind]}_"): file
        for folder in (path, path / "annotations")
        for file in sorted(folder.glob(f"{KINDS[kind]}_*.json"))
    }
    names = {name: match[1] if (match := _YEAR.fullmatch(name)) else name for name in lists}
    twice = len(set(names.values())) < len(names)
    places, unread = {}, []
    for name in lists:
        folders = [path / name, path / "images" / name] if given is None else [path / given / name, path / given]
        images = next((folder for folder in folders if folder.is_dir()), None)
        if images is None:
            wanted = " or ".join(str(folder.relative_to(path)) for folder in folders)
            unread.append(Unread(lists[name], f"no folder {wanted} of its images; data.options.images names another"))
        else:
            places[name if twice else names[name]] = lists[name], images
    if not places:
        why = f"{unread[0].path.name}: {unread[0].why}" if unread else f"it holds {seen(path)}"
        raise DataError(
            f"data.root: {str(path)!r} holds no 'coco' data set; expected {KINDS[kind]}_NAME.json, there or in"
            f" annotations, and images in NAME or images/NAME; {why}."
        )
    return {name: places[name] for name in in_order(places)}, tuple(unread)


class _Part(NamedTuple):
    """One split, listed."""

    categories: dict[Any, str]
    things: tuple[int, ...]
    samples: tuple[Sample, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def _read(file: Path, images: Path, kind: str) -> _Part:
    content = read_json(file)
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise DataError(f"{file}: no COCO {KINDS[kind]} file; it looks like {describe(content)}.")
    categories = read_categories(content["categories"], file, Tally())
    if len(set(categories.values())) < len(categories):
        raise DataError(f"{file}: two categories have one name; give each its own.")
    things = tuple(
        place
        for place, ident in enumerate(categories)
        if kind == INSTANCE or any(one.get("id") == ident and one.get("isthing") for one in content["categories"])
    )
    if not things:
        raise DataError(f"{file}: no category is a thing; set isthing to 1 for those that have instances.")
    problems: list[Problem] = []
    entries = _entries(content["images"], file, images, problems)
    annotations = _by_image(content["annotations"], content["images"], file, kind, problems)
    classes = {ident: place for place, ident in enumerate(categories)}
    samples, notes = [], []
    for ident in sorted(entries, key=lambda ident: (isinstance(ident, str), ident)):
        name, size = entries[ident]
        mine, image = annotations.get(ident, []), f"image {ident}, {name}"
        if kind == INSTANCE:
            reader = CocoReader(file, image, mine, classes, size)
        elif len(mine) == 1 and (file.with_suffix("") / str(mine[0].get("file_name"))).is_file():
            png = file.with_suffix("") / mine[0]["file_name"]
            reader = PanopticReader(png, file, image, mine[0]["segments_info"], classes, things, size)
        else:
            why = f"{len(mine)} annotations of it" if len(mine) != 1 else f"no file {mine[0].get('file_name')!r}"
            problems.append(_problem("image without panoptic PNG", file, f"{image}: {why} in {file.stem}"))
            continue
        if not mine:
            notes.append(_problem("image without objects", file, image))
        samples.append(Sample(os.path.splitext(name)[0].replace("/", "_"), images / name, None, None, reader))
    if not samples:
        raise DataError(f"{file}: {f'{problems[0].text}' if problems else 'it lists no images'}.")
    return _Part(categories, things, tuple(samples), tuple(problems), tuple(notes))


def _entries(
    listed: list[Any], file: Path, images: Path, problems: list[Problem]
) -> dict[Any, tuple[str, tuple[int, int] | None]]:
    """Image id -> file name and (height, width), of the images that are there."""
    there = {entry.name for entry in os.scandir(images)}
    entries: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    names: dict[str, Any] = {}
    clashes = set()
    for number, entry in enumerate(listed):
        ident = entry.get("id") if isinstance(entry, dict) else None
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not _is_id(ident) or not isinstance(name, str) or not name:
            problems.append(_problem("image without an id or a file name", file, f"images[{number}]"))
            continue
        image = f"image {ident}, {name}"
        outside = os.path.isabs(name) or ".." in name.split("/")
        if ident in entries:
            clashes.add(ident)
            text = f"{image} and {entries[ident][0]}; give each its own id"
            problems.append(_problem("image id that repeats (none of them is read)", file, text))
        elif name in names:
            problems.append(_problem("image that is listed twice", file, f"{image}, also as {names[name]}"))
        elif outside or not (name in there or ("/" in name and (images / name).is_file())):
            text = f"{image}: not in {images}; data.options.images names another folder"
            problems.append(_problem("image that is missing", file, text))
        else:
            entries[ident], names[name] = (name, _size(entry)), ident
    return {ident: entry for ident, entry in entries.items() if ident not in clashes}


def _by_image(
    annotations: list[Any], listed: list[Any], file: Path, kind: str, problems: list[Problem]
) -> Mapping[Any, list[Mapping[str, Any]]]:
    """The annotations of each image id, in the file's order."""
    known = {entry.get("id") for entry in listed if isinstance(entry, dict) and _is_id(entry.get("id"))}
    by_image, seen_ids = defaultdict(list), set()
    for number, annotation in enumerate(annotations):
        image = annotation.get("image_id") if isinstance(annotation, dict) else None
        if not _is_id(image) or (kind == "panoptic" and not _has_segments(annotation)):
            problems.append(_problem("annotation of another form", file, f"annotations[{number}]"))
            continue
        ident = annotation.get("id")
        if image not in known:
            text = f"annotation {ident!r}: image_id {image!r} is not in the file's images"
            problems.append(_problem("annotation of an unknown image", file, text))
            continue
        if kind == INSTANCE and _is_id(ident) and ident in seen_ids:
            text = f"annotation {ident!r} of image {image!r}; give each its own id"
            problems.append(_problem("annotation id that repeats (all of them are read)", file, text))
        seen_ids.add(ident if _is_id(ident) else None)
        by_image[image].append(annotation)
    return by_image


def _has_segments(annotation: Mapping[str, Any]) -> bool:
    segments = annotation.get("segments_info")
    return isinstance(segments, list) and all(isinstance(segment, dict) for segment in segments)


def _size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) that an image's entry says, None where it says none."""
    size = entry.get("height"), entry.get("width")
    return size if all(isinstance(side, int) and side > 0 for side in size) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _problem(kind: str, file: Path, text: str) -> Problem:
    return Problem(kind, f"{file}: {kind}: {text}")


def _difference(one: _Part, other: _Part) -> str:
    """The first category that differs."""
    pairs = sorted(one.categories.items() ^ other.categories.items(), key=str)
    return f"category {pairs[0][0]}, {pairs[0][1]!r}"
