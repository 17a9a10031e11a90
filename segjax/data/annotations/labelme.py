"""labelme's JSON, one file an image: shapes drawn as labelme's own `shapes_to_label` draws them.

Shapes are painted in the order of the file, later ones over earlier ones. `__ignore__` is void; what no shape covers is
background, which `_background_` is too. Source: labelme/utils/shape.py of wkentaro/labelme.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from segjax.core.errors import DataError
from segjax.data.annotations import shapes
from segjax.data.annotations.class_list import BACKGROUND, VOID_NAME, ClassList, Declared, read_names, tidy
from segjax.data.annotations.documents import describe, read_json
from segjax.data.annotations.pictures import ImageFolders
from segjax.data.annotations.source import Picture, Size, Source
from segjax.data.annotations.tally import Dropped, Tally

_LINE_WIDTH = 10  # labelme's
_POINT_RADIUS = 5  # labelme's
_LIST = "labels.txt"
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


def read(path: Path, images: Path | None, root: Path, tally: Tally) -> Source:
    """Reads a labelme file, or all those in a folder and below it.

    Args:
      path: the file, or the folder; a `labels.txt` in it is the class list.
      images: where the images are; None takes the paths that the files give, within the folder.
      root: the data set's folder, in which no image is looked for.
      tally: takes what is dropped.

    Raises:
      DataError: there is no labelme file.
    """
    top = path if path.is_dir() else path.parent
    found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not found:
        web = " The XML files of the LabelMe web tool are not read." if any(path.rglob("*.xml")) else ""
        raise DataError(f"{path}: no .json file in it or below it.{web}")
    folders = ImageFolders([images] if images else [top], given=images is not None, leave_out=root)
    pictures: list[Picture] = []
    names: set[str] = set()
    taken: dict[Path, Path] = {}
    for file in found:
        try:
            content = _open(file)
        except DataError as error:
            if len(found) == 1:
                raise
            tally.drop("label file that cannot be read", str(error))
            continue
        try:
            picture = _picture(file, content, folders, tally)
            if picture.file in taken and picture.file is not None:
                raise Dropped("label file for an image that has one already", f"{file} and {taken[picture.file]}")
        except Dropped as drop:
            tally.drop(drop.kind, drop.example)
            continue
        if picture.file is not None:
            taken[picture.file] = file
        pictures.append(picture)
        labels = {tidy(shape.get("label")) for shape in content["shapes"] if isinstance(shape, dict)}
        names |= labels - {"", VOID_NAME, BACKGROUND}
    listing = top / _LIST
    if listing.is_file():
        gathered, colours = read_names(listing)
        return Source(pictures, Declared(gathered, colours))
    return Source(pictures, Declared((BACKGROUND, *sorted(names)), closed=False))


def _open(file: Path) -> dict[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{file}: no labelme file; it looks like {describe(content)}.")
    return content


def _picture(file: Path, content: dict[str, Any], folders: ImageFolders, tally: Tally) -> Picture:
    size = _size(content)
    draw = functools.partial(_draw, content["shapes"], str(file))
    embedded = bool(content.get("imageData"))
    try:
        path = _find(file, content.get("imagePath"), folders, tally)
    except Dropped as drop:
        if not embedded:
            raise Dropped(drop.kind, f"{drop.example} (of {file})") from drop
        data = _embedded(file)
        suffix = next((end for magic, end in _SUFFIXES.items() if data.startswith(magic)), None)
        if suffix is None:
            raise Dropped("image of a format that segjax does not read", f"the imageData of {file}") from drop
        tally.note("image taken from the label file (imageData)", str(file))
        name = PurePosixPath(file.as_posix()).with_suffix(suffix)
        return Picture(folders.name_of(Path(name)), None, draw, size, functools.partial(_embedded, file), upright=True)
    return Picture(folders.name_of(path), path, draw, size, upright=True)


def _find(file: Path, name: object, folders: ImageFolders, tally: Tally) -> Path:
    """The image by its path from the label file, which is what labelme means by it, or else as any other tool's."""
    if isinstance(name, str) and name and "\0" not in name:
        there = folders.inside(file.parent / name.replace("\\", "/"))
        if there is not None:
            return folders.find(str(there), tally)
    return folders.find(name, tally)


def _embedded(file: Path) -> bytes:
    try:
        return base64.b64decode(_open(file)["imageData"], validate=False)
    except (binascii.Error, TypeError, ValueError) as error:
        raise Dropped("image that cannot be read", f"the imageData of {file} ({error})") from error


def _size(content: dict[str, Any]) -> Size | None:
    height, width = content.get("imageHeight"), content.get("imageWidth")
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in (height, width))
    return (height, width) if whole else None


def _draw(listed: list[Any], file: str, size: Size, classes: ClassList, tally: Tally) -> np.ndarray:
    layers = []
    for number, shape in enumerate(listed):
        name = f"{file}, shapes[{number}]"
        try:
            if not isinstance(shape, dict):
                raise Dropped("shape that is no object", repr(shape)[:60])
            label = shape.get("label")
            if not tidy(label):
                raise Dropped("shape without a label", repr(label)[:60])
            ident = classes.ident(tidy(label))
            if ident is None:
                raise Dropped("shape of a label that is not in the class list", repr(label)[:60])
            layers.append(shapes.Layer(_region(shape, size), ident, f"{name}, {label!r}"))
        except Dropped as drop:
            tally.drop(drop.kind, f"{name}: {drop.example}")
    if not listed:
        tally.note("image without shapes, which is all background", file)
    return shapes.paint(size, classes.names.index(BACKGROUND), layers, tally)


def _region(shape: dict[str, Any], size: Size) -> shapes.Region:
    kind = shape.get("shape_type") or "polygon"  # labelme before 3.3 wrote none
    if kind not in _POINTS:
        raise Dropped("shape of a type that covers no area or is not read", repr(kind)[:60])
    points = shapes.points_array(shape.get("points"))
    least, most = _POINTS[kind]
    if kind == "polygon" and len(points) < least:
        raise Dropped("polygon with fewer than 3 points", f"{len(points)} points")
    if not least <= len(points) <= most:
        raise Dropped("shape with another number of points than its type has", f"{kind} with {len(points)}")
    if kind == "mask":
        return _mask(shape.get("mask"), points, size)
    if kind == "rectangle" and (points[0] == points[1]).any():
        raise Dropped("empty or inverted box", " ".join(f"{value:g}" for value in points.ravel()))
    return shapes.drawn(points, size, _DRAW[kind])


def _mask(text: object, points: np.ndarray, size: Size) -> shapes.Region:
    """A mask stored as a PNG in base64, whose first and last pixel are the two points."""
    try:
        if not isinstance(text, str):
            raise TypeError("no text")
        with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
            mask = np.asarray(picture).astype(bool)
    except (OSError, ValueError, TypeError, SyntaxError, Image.DecompressionBombError) as error:
        raise Dropped("mask that cannot be read", str(error)[:60]) from error
    shapes.check_reach(points, size)
    (left, top), (right, bottom) = np.trunc(points).astype(int).tolist()
    if mask.ndim != 2 or mask.shape != (bottom - top + 1, right - left + 1):
        raise Dropped(
            "mask of another size than its box", f"{list(mask.shape)} in x {left}..{right}, y {top}..{bottom}"
        )
    return shapes.pasted(mask, top, left, size)


def _polygon(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    draw.polygon(points, fill=1, outline=1)


def _rectangle(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    (x0, y0), (x1, y1) = points
    draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1, outline=1)


def _circle(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    _disc(draw, *points[0], math.dist(*points))


def _point(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    _disc(draw, *points[0], _POINT_RADIUS)


def _line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    draw.line(points, fill=1, width=_LINE_WIDTH)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)


_DRAW = {
    "polygon": _polygon,
    "oriented_rectangle": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "point": _point,
    "line": _line,
    "linestrip": _line,
}
# Fewest and most points of each type; the mask's are its first and last pixel.
_POINTS = {
    "polygon": (3, math.inf),
    "oriented_rectangle": (4, 4),
    "rectangle": (2, 2),
    "circle": (2, 2),
    "point": (1, 1),
    "line": (2, 2),
    "linestrip": (2, math.inf),
    "mask": (2, 2),
}
