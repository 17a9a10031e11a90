"""CVAT's XML, "CVAT for images 1.1" and "CVAT for video 1.1": labels, images, and their shapes.

Source: cvat/apps/dataset_manager/formats/cvat.py of cvat-ai/cvat.
"""

from __future__ import annotations

import functools
from pathlib import Path
from xml.etree.ElementTree import Element

from segjax.core.errors import DataError
from segjax.data.annotations.class_list import Declared, tidy
from segjax.data.annotations.cvat_shapes import NO_AREAS, Shape, draw_shapes
from segjax.data.annotations.cvat_video import frames
from segjax.data.annotations.documents import describe_xml, read_xml
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size, Source
from segjax.data.annotations.tally import Dropped, Tally

_NO_AREA_LABELS = (*NO_AREAS, "tag")
_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test", "default": ""}


def read(path: Path, images: Path | None, root: Path, tally: Tally) -> Source:
    """Reads `annotations.xml`, or the only XML file of a folder.

    Args:
      path: the file, or its folder.
      images: where the images are; None looks beside the file and below it (`images/`).
      root: the data set's folder, in which no image is looked for.
      tally: takes what is dropped.

    Raises:
      DataError: it is no such file.
    """
    file = _only_xml(path)
    content = read_xml(file)
    if content.tag != "annotations":
        raise DataError(f"{file}: no CVAT file; it looks like {describe_xml(content)}.")
    folders = ImageFolders([images] if images else [file.parent], given=images is not None, leave_out=root)
    if content.find("track") is not None:
        pictures = frames(content, file, folders, tally)
    else:
        pictures = _images(content, folders, tally)
    names = []
    for label in content.iterfind("meta//labels/label"):
        if label.find("parent") is None and label.findtext("type", "any") not in _NO_AREA_LABELS:
            names.append(tidy(label.findtext("name")))
    if not all(names):
        raise DataError(f"{file}: a label without a name in <meta>.")
    if not names:
        raise DataError(f"{file}: <meta> lists no labels; export it again from CVAT.")
    return Source(pictures, Declared(tuple(dict.fromkeys(names))))


def _only_xml(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / "annotations.xml"] if (path / "annotations.xml").is_file() else sorted(path.glob("*.xml"))
    if len(files) != 1:
        some = ", ".join(file.name for file in files[:4])
        raise DataError(f"{path}: {len(files)} XML files{f' ({some})' if files else ''}; name the one to read.")
    return files[0]


def _images(content: Element, folders: ImageFolders, tally: Tally) -> list[Picture]:
    pictures: dict[Path, Picture] = {}
    for image in content.iterfind("image"):
        name = image.get("name")
        listed = []
        for number, element in enumerate(child for child in image if child.tag != "tag"):
            listed.append(Shape(element, element.get("label", ""), f"{name}, shape {number} ({element.tag})"))
        try:
            path = folders.find(name, tally)
            if path in pictures:
                raise Dropped("image that comes twice (the first is taken)", str(path))
        except Dropped as drop:
            tally.drop(drop.kind, drop.example)
            continue
        size, subset = _size(image), image.get("subset")
        draw = functools.partial(draw_shapes, listed, folders.name_of(path))
        pictures[path] = Picture(
            folders.name_of(path), path, draw, size, upright=True, split=subset and split_name(subset)
        )
    return list(pictures.values())


def split_name(subset: str) -> str | None:
    """The split of a CVAT subset: Train, Validation and Test by their usual names, others in lower case."""
    name = subset.strip().lower().replace(" ", "_")
    return _SPLITS.get(name, name) or None


def _size(image: Element) -> Size | None:
    height, width = image.get("height", ""), image.get("width", "")
    return (
        (int(height), int(width)) if height.isdecimal() and width.isdecimal() and int(height) and int(width) else None
    )
