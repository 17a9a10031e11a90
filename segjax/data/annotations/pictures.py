"""The image files that annotations name: found inside the folders given, nowhere else, and measured by their header."""

from __future__ import annotations

import os
import re
import struct
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segjax.core.errors import DataError
from segjax.data.annotations.tally import Dropped, Tally
from segjax.data.decode import open_image
from segjax.data.layout import IMAGE_SUFFIXES

_ORIENTATION = 0x0112  # EXIF and TIFF tag
_SIDEWAYS = 5  # orientations from here on swap height and width
_READ = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP")  # Pillow's names of what `decode` reads


class Header(NamedTuple):
    """What an image file says of itself: (height, width) as stored, EXIF orientation, whether it has one channel."""

    stored: tuple[int, int]
    orientation: int
    grey: bool

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) as displayed."""
        return self.stored[::-1] if self.orientation >= _SIDEWAYS else self.stored


def read_header(path: Path) -> Header:
    """Size, orientation and kind of an image file, from its header. Raises Dropped."""
    try:
        if path.suffix.lower() == ".npy":
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            if len(shape) not in (2, 3):
                raise Dropped("image that is no image", f"{path} (npy of shape {list(shape)})")
            return Header(shape[:2], 1, len(shape) == 2 or shape[2] == 1)
        with Image.open(path) as image:
            if image.format not in _READ:
                raise Dropped("image of a format that segjax does not read", f"{path} ({image.format})")
            width, height = image.size
            if image.format == "TIFF":  # whose size Pillow gives as displayed
                width, height = int(image.tag_v2[256]), int(image.tag_v2[257])
            orientation = image.getexif().get(_ORIENTATION, 1)
            grey = image.mode == "LA" or (len(image.getbands()) == 1 and image.mode != "P")
            return Header((height, width), orientation if orientation in range(1, 9) else 1, grey)
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, struct.error, Image.DecompressionBombError) as error:
        if path.suffix.lower() in (".tif", ".tiff"):  # Pillow opens few of those with many channels
            return _header_by_decoding(path)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise Dropped("image that cannot be read", f"{path} ({reason})") from error


def _header_by_decoding(path: Path) -> Header:
    try:
        image = open_image(path)
    except DataError as error:
        raise Dropped("image that cannot be read", str(error)) from error
    return Header(image.shape[:2], 1, image.shape[2] == 1)


def turn(label: np.ndarray, orientation: int) -> np.ndarray:
    """A label map [H, W] of stored pixels as it is displayed under an EXIF orientation, 1 to 8."""
    if orientation >= _SIDEWAYS:
        label = label.T
    if orientation in (2, 3, 6, 7):
        label = label[:, ::-1]
    if orientation in (3, 4, 7, 8):
        label = label[::-1]
    return np.ascontiguousarray(label)


def orientation_of_labels(size: tuple[int, int], header: Header, upright: bool, name: str) -> int:
    """The EXIF orientation by which a label map of `size` has to be turned to lie on the image as it is displayed.

    segjax shows and trains images upright. Whether annotations lie on the displayed or on the stored image differs by
    tool; where height and width are swapped, the size tells which. `upright`: the tool is known to display.

    Raises:
      Dropped: the size is neither's, or nothing tells which.
    """
    if size not in (header.stored, header.upright):
        found = f"{header.upright[0]}x{header.upright[1]}"
        raise Dropped(
            "image of another size than its annotations", f"{name}: {found}, annotated as {size[0]}x{size[1]}"
        )
    if header.orientation == 1:
        return 1
    if header.stored != header.upright:
        return header.orientation if size == header.stored else 1
    if upright:
        return 1
    raise Dropped(
        "image with an EXIF orientation of which the size does not tell whether the annotations follow it",
        f"{name} (orientation {header.orientation}; turn its pixels, or remove the tag)",
    )


class ImageFolders:
    """Image files under some folders, found by the names that annotations have for them.

    Names may be relative, absolute, of another machine or of Windows. A file outside the folders is never opened.
    """

    def __init__(self, folders: Sequence[Path], *, given: bool, leave_out: Path) -> None:
        """`given`: the folders are the user's choice, so that a name's own folders need not be there again.
        `leave_out`: a folder in which to look for nothing, the one that is written to."""
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]
        self.given = given
        self.leave_out = Path(os.path.abspath(leave_out))
        self._index: dict[str, list[tuple[str, ...]]] | None = None
        self._places: dict[tuple[str, ...], Path] = {}

    def find(self, name: object, tally: Tally) -> Path:
        """The file of an image that is called `name`. Raises Dropped."""
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise Dropped("image without a file name", repr(name)[:60])
        path = self._find(name, tally)
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise Dropped("image of a format that segjax does not read", str(path))
        return path

    def inside(self, path: Path) -> Path | None:
        """The path without `..` if it lies in one of the folders and is a file, else None."""
        plain = Path(os.path.normpath(os.path.abspath(path)))
        return plain if any(plain.is_relative_to(folder) for folder in self.folders) and plain.is_file() else None

    def name_of(self, path: Path) -> str:
        """The path relative to the folder it is in, for names that must differ between folders."""
        for folder in self.folders:
            if path.is_relative_to(folder):
                return path.relative_to(folder).as_posix()
        return path.name

    def _find(self, name: str, tally: Tally) -> Path:
        if os.path.isabs(name) and (there := self.inside(Path(name))):
            return there
        parts = tuple(part for part in re.split(r"[\\/]+", name) if part not in ("", "."))
        foreign = os.path.isabs(name) or name[:1] in "\\/" or bool(parts and re.fullmatch(r"[A-Za-z]+:", parts[0]))
        if ".." in parts:
            foreign, parts = True, parts[len(parts) - parts[::-1].index("..") :]
        if not parts:
            raise Dropped("image without a file name", repr(name)[:60])
        for folder in self.folders:
            # The folder itself may be the last of those that the name begins with.
            for start in range(len(parts)):
                certain = start == 0 or self.given or parts[start - 1] == folder.name
                if certain and (there := self.inside(folder.joinpath(*parts[start:]))):
                    return there
        matches = self._matches(parts)
        if not matches and (len(parts) == 1 or foreign):
            matches = self._matches(parts[-1:])
            if len(matches) == 1 and len(parts) > 1:
                tally.note("image found by its file name alone", f"{name} -> {self._places[matches[0]]}")
        if len(matches) == 1:
            return self._places[matches[0]]
        if matches:
            raise Dropped(
                "image name that fits several files", f"{name}: {self._places[matches[0]]}, {self._places[matches[1]]}"
            )
        if foreign:
            raise Dropped("image outside the folders that may be read (--images)", name)
        raise Dropped("image missing on disk", name)

    def _matches(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Files whose path ends with `parts`; exactly so, or else but for case."""
        if self._index is None:
            self._index = {}
            for folder in self.folders:
                self._list(folder)
        wanted = tuple(_folded(part) for part in parts)
        found = [
            place
            for place in self._index.get(wanted[-1], ())
            if tuple(_folded(part) for part in place[len(place) - len(parts) :]) == wanted
        ]
        exact = [
            place for place in found if tuple(map(_composed, place[-len(parts) :])) == tuple(map(_composed, parts))
        ]
        return exact or found

    def _list(self, folder: Path) -> None:
        for current, folders, files in os.walk(folder):
            folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(current, f) != self.leave_out)
            for file in sorted(files):
                path = Path(current, file)
                if (
                    not file.startswith(".")
                    and path.suffix.lower() in IMAGE_SUFFIXES
                    and path.parts not in self._places
                ):
                    self._places[path.parts] = path
                    self._index.setdefault(_folded(file), []).append(path.parts)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _composed(text).casefold()


def open_folder(path: Path, key: str) -> Path:
    """`path`, or the DataError that there is no such folder."""
    if not path.is_dir():
        raise DataError(f"{key}: no folder {str(path)!r}.")
    return path
