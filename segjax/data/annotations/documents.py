"""JSON and XML files of annotation tools, opened with one line of error that tells what a wrong file looks like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from segjax.core.errors import DataError

_PACKED = {b"\x1f\x8b": "gzip-compressed", b"PK\x03\x04": "a zip archive", b"7z\xbc\xaf": "a 7z archive"}
_PICTURES = {b"\x89PNG": "a PNG picture", b"\xff\xd8": "a JPEG picture", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}
_DEEPEST = 100  # elements within elements; annotations have fewer than ten


def read_json(path: Path) -> Any:
    """The value of a JSON file in UTF-8, with or without a byte-order mark.

    Raises:
      DataError: it cannot be read, or is something else.
    """
    data = _read(path)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text; save the JSON as UTF-8.") from error
    except json.JSONDecodeError as error:
        if data.lstrip()[:1] == b"<":
            raise DataError(f"{path}: not JSON; it looks like XML.") from error
        raise DataError(f"{path}: broken JSON, line {error.lineno}, column {error.colno}: {error.msg}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({str(error).splitlines()[0]}).") from error


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an XML file. A document type is refused: entities can make a small file fill the memory.

    Raises:
      DataError: it cannot be read, is something else, or declares a document type.
    """
    data = _read(path)
    if data.lstrip()[:1] in (b"{", b"["):
        raise DataError(f"{path}: not XML; it looks like JSON.")
    builder, depth = ElementTree.TreeBuilder(), 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path}: declares a document type (DOCTYPE), which annotation files have no use for; remove it."
        )

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise DataError(
                f"{path}: more than {_DEEPEST} elements within each other; no annotation file is like that."
            )
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    parser.StartDoctypeDeclHandler, parser.StartElementHandler = refuse, start
    parser.EndElementHandler, parser.CharacterDataHandler = end, builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise DataError(f"{path}: broken XML ({error}).") from error
    return builder.close()


def describe(value: Any) -> str:
    """What a JSON value looks like, for the message that says it is not what was asked for."""
    if isinstance(value, list):
        first = value[0] if value and isinstance(value[0], dict) else {}
        if {"image_id", "category_id"} <= first.keys():
            return "a list of COCO results, which has no images and categories"
        if "annotations" in first and "data" in first:
            return "a Label Studio export; export it as COCO"
        return f"a list of {len(value)}"
    if not isinstance(value, dict):
        return f"a single {type(value).__name__}"
    if "shapes" in value:
        return "a labelme file (--from labelme)"
    if {"images", "annotations"} <= value.keys():
        annotations = value["annotations"]
        first = annotations[0] if isinstance(annotations, list) and annotations else None
        if isinstance(first, dict) and "segments_info" in first:
            return "COCO panoptic, whose labels are PNGs"
        return "a COCO file (--from coco)"
    if "imageURLs" in value:
        return "a js-segment-annotator list, whose labels are PNGs"
    if value.get("type") == "FeatureCollection":
        return "GeoJSON"
    if "_via_img_metadata" in value or any(isinstance(v, dict) and "regions" in v for v in value.values()):
        return "a VGG Image Annotator (VIA) project; export it as COCO"
    keys = ", ".join(sorted(map(str, value))[:5])
    return f"an object with the keys {keys}" if keys else "an empty object"


def describe_xml(root: ElementTree.Element) -> str:
    """What an XML file looks like, for the same purpose."""
    if root.tag == "annotations":
        return "a CVAT file (--from cvat)"
    if root.tag == "annotation" and root.find(".//bndbox") is not None:
        return "Pascal VOC boxes, which are no masks"
    if root.tag == "annotation":
        return "a file of the LabelMe web tool, which segjax does not read"
    return f"XML whose root is <{root.tag[:40]}>"


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if not data.strip():
        raise DataError(f"{path}: the file is empty.")
    for magic, what in {**_PACKED, **_PICTURES}.items():
        if data.startswith(magic):
            raise DataError(f"{path}: {what}, not a text file{'; unpack it' if magic in _PACKED else ''}.")
    return data
