"""COCO's `instances` JSON: polygons and run lengths, plain or compressed.

Smaller annotations are painted over larger ones, by the pixels they cover; those of one size in the order of the
file. That order itself means nothing in COCO: of 1,503 objects of 160 images, later over earlier left nothing of 63,
smaller over larger of none. Crowds are void, and lie under everything else, so that an object annotated in a crowd
keeps its class. What no annotation covers is background.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.annotations import shapes
from segjax.data.annotations.class_list import BACKGROUND, ClassList, Declared, tidy
from segjax.data.annotations.documents import describe, read_json
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size, Source
from segjax.data.annotations.tally import Dropped, Tally


def read(path: Path, images: Path | None, root: Path, tally: Tally) -> Source:
    """Reads a COCO JSON file, or the only one of a folder.

    Args:
      path: the file, or its folder.
      images: where the images are; None looks beside the file, below it, and beside the folder `annotations`.
      root: the data set's folder, in which no image is looked for.
      tally: takes what is dropped.

    Raises:
      DataError: it is no such file.
    """
    file = _only_json(path)
    content = read_json(file)
    described = describe(content)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list) or "panoptic" in described:
        raise DataError(f"{file}: no COCO instances file; it looks like {described}.")
    if not isinstance(content.get("annotations"), list) or not isinstance(content.get("categories"), list):
        raise DataError(f"{file}: it lists images, but no annotations and categories to label them by.")
    beside = [file.parent, *([file.parent.parent] if file.parent.name == "annotations" else [])]
    folders = ImageFolders([images] if images else beside, given=images is not None, leave_out=root)

    names = read_categories(content["categories"], file, tally)
    entries, files = _images(content["images"], folders, tally)
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    seen = set()
    for number, annotation in enumerate(content["annotations"]):
        if not isinstance(annotation, dict):
            tally.drop("annotation that is no object", f"annotations[{number}]")
            continue
        name, ident, image = _name(annotation, number), _key(annotation.get("id")), _key(annotation.get("image_id"))
        if ident in seen:
            tally.note("annotation id that comes twice (both are drawn)", name)
        if ident is not None:
            seen.add(ident)
        if image in entries:
            by_image[image].append({**annotation, "name": name})
        else:
            tally.drop("annotation of an unknown image", f"{name}, image {annotation.get('image_id')!r}"[:80])
    pictures = []
    for file_path, keys in files.items():
        entry = entries[keys[0]]
        annotations = [annotation for key in keys for annotation in by_image[key]]
        pictures.append(
            Picture(
                name=folders.name_of(file_path),
                file=file_path,
                draw=functools.partial(_draw, annotations, names, folders.name_of(file_path)),
                size=_size(entry),
            )
        )
    return Source(pictures, Declared(tuple(dict.fromkeys(names.values()))))


def _only_json(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.json")) or sorted((path / "annotations").glob("*.json"))
    if len(files) != 1:
        some = ", ".join(file.name for file in files[:4])
        raise DataError(f"{path}: {len(files)} JSON files{f' ({some})' if files else ''}; name the one to read.")
    return files[0]


def read_categories(listed: list[Any], file: Path, tally: Tally) -> dict[Any, str]:
    """Category id -> tidy name, sorted by id.

    Raises:
      DataError: a category without id and name, an id of two names, or none at all.
    """
    names: dict[Any, str] = {}
    for number, category in enumerate(listed):
        ident = _key(category.get("id")) if isinstance(category, dict) else None
        name = tidy(category.get("name")) if isinstance(category, dict) else ""
        if ident is None or not name:
            raise DataError(f"{file}: categories[{number}] has no id and name.")
        if names.get(ident, name) != name:
            raise DataError(f"{file}: category id {ident} is both {names[ident]!r} and {name!r}.")
        if name in names.values():
            tally.note("categories of the same name, which are one class", name)
        names[ident] = name
    if not names:
        raise DataError(f"{file}: it has no categories.")
    return dict(sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _images(listed: list[Any], folders: ImageFolders, tally: Tally) -> tuple[dict[Any, Any], dict[Path, list[Any]]]:
    """Entries by id, among them those of dropped images (None), and ids by image file."""
    entries: dict[Any, Any] = {}
    clashes = set()
    for number, entry in enumerate(listed):
        ident = _key(entry.get("id")) if isinstance(entry, dict) else None
        if ident is None:
            tally.drop("image without an id", f"images[{number}]")
        elif ident not in entries:
            entries[ident] = entry
        elif entries[ident].get("file_name") == entry.get("file_name"):
            tally.note("image listed twice", repr(entry.get("file_name")))
        else:
            clashes.add(ident)
            tally.drop("image id of two images (neither is read)", f"{ident!r}: {entry.get('file_name')!r}")
    files: dict[Path, list[Any]] = {}
    for ident, entry in entries.items():
        if ident in clashes:
            continue
        try:
            path = folders.find(entry.get("file_name"), tally)
        except Dropped as drop:
            tally.drop(drop.kind, drop.example)
            continue
        if path in files:
            first = entries[files[path][0]]
            if _size(first) != _size(entry):
                tally.drop("image listed with two sizes (the first is taken)", str(path))
                continue
            tally.note("image with two ids, whose annotations are joined", str(path))
        files.setdefault(path, []).append(ident)
    return entries, files


def _draw(
    annotations: list[dict[str, Any]], names: dict[Any, str], image: str, size: Size, classes: ClassList, tally: Tally
) -> np.ndarray:
    crowds: list[shapes.Layer] = []
    layers: list[shapes.Layer] = []
    for annotation in annotations:
        name = f"{annotation['name']} ({image})"
        try:
            category = names.get(_key(annotation.get("category_id")))
            if category is None:
                raise Dropped("annotation of an unknown category", repr(annotation.get("category_id"))[:60])
            ident = classes.ident(category)
            if ident is None:
                raise Dropped("annotation of a category that is not in the class list", repr(category))
            crowd = bool(annotation.get("iscrowd"))
            if crowd:
                tally.note("crowd made void", name)
            if parts := regions(annotation.get("segmentation"), size, name, tally):
                layer = shapes.Layer(shapes.union(parts, size), IGNORE if crowd else ident, name)
                (crowds if crowd else layers).append(layer)
        except Dropped as drop:
            tally.drop(drop.kind, f"{name}: {drop.example}")
    if not annotations:
        tally.note("image without annotations, which is all background", image)
    layers.sort(key=lambda layer: -int(layer.region.mask.sum()))
    return shapes.paint(size, classes.names.index(BACKGROUND), crowds + layers, tally)


def regions(segmentation: object, size: Size, name: str, tally: Tally) -> list[shapes.Region]:
    """The pixels of each part of a segmentation; parts that cannot be drawn are dropped one by one.

    Raises:
      Dropped: none of it can be drawn.
    """
    if segmentation is None or segmentation == [] or segmentation == {}:
        raise Dropped("annotation without a segmentation", "a box alone is no mask")
    if isinstance(segmentation, dict):
        stated = segmentation.get("size")
        if isinstance(stated, list) and len(stated) == 2 and all(map(_is_length, stated)) and tuple(stated) != size:
            # Before a mask of any size is made.
            stated = f"{stated[0]}x{stated[1]}"
            raise Dropped("RLE of another size", f"{stated}, the image is {size[0]}x{size[1]} (height x width)")
        mask = shapes.run_lengths(segmentation.get("counts"), stated)
        if not mask.any():
            raise Dropped("shape that covers no pixel", "an empty RLE")
        return [shapes.Region(0, 0, mask)]
    if not isinstance(segmentation, list):
        raise Dropped("segmentation that is neither polygons nor RLE", repr(segmentation)[:40])
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    found = []
    for part in polygons:
        try:
            if not isinstance(part, list) or len(part) % 2:
                raise Dropped("polygon with an odd number of coordinates", repr(part)[:40])
            if len(part) < 6:
                raise Dropped("polygon with fewer than 3 points", f"{len(part) // 2} points")
            pairs = [part[start : start + 2] for start in range(0, len(part), 2)]
            found.append(shapes.polygon(shapes.points_array(pairs), size))
        except Dropped as drop:
            tally.drop(drop.kind, f"{name}: {drop.example}")
    return found


def _size(entry: dict[str, Any]) -> Size | None:
    height, width = entry.get("height"), entry.get("width")
    return (int(height), int(width)) if _is_length(height) and _is_length(width) else None


def _is_length(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 and value == value // 1


def _key(value: object) -> Any:
    """An id as a dictionary can hold it: a whole number or a string; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def _name(annotation: dict[str, Any], number: int) -> str:
    ident = _key(annotation.get("id"))
    return f"annotations[{number}]" if ident is None else f"annotation {ident}"
