"""Which pages of a TIFF file are the picture, and whether they are of a kind that is read here."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.data import tiff_blocks

_PALETTE, _YCBCR = 3, 6
_READ = (0, 1, 2, 3, 4, 5, 6)  # white is zero, black is zero, RGB, palette, mask, inks, YCbCr
_NAMES = {8: "CIELAB", 9: "ICCLAB", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}  # SampleFormat; 4, undefined, is what the bits say
_PAGES = 4096


def choose_pages(path: Path, file: Any) -> tuple[list[Any], Any]:
    """The pages that are the picture, and its transparency mask or None."""
    found = []
    for page in _walk(path, file.pages):
        if page.imagewidth and page.imagelength:
            found.append(page)
    whole = [page for page in found if not page.subfiletype & 5]
    if not whole:  # a thumbnail comes first, the picture is below it
        below = [inner for page in found if page.pages is not None for inner in _walk(path, page.pages, chained=False)]
        whole = [page for page in below if page.imagewidth and page.imagelength and not page.subfiletype & 5] or [
            page for page in found if not page.subfiletype & 1 or not page.subfiletype & 4
        ]
    if not whole:
        raise ValueError("no picture in it")
    first = whole[0]
    size = (first.imagelength, first.imagewidth)
    for page in whole:
        other = (page.imagelength, page.imagewidth)
        if other != size and not _reduced(size, other):
            raise DataError(
                f"{path}: pages of {size[0]}x{size[1]} and {other[0]}x{other[1]} (height x width) in one TIFF file;"
                " save each as a file of its own."
            )
    same = [page for page in whole if (page.imagelength, page.imagewidth) == size]
    masks = [page for page in found if page.subfiletype & 4 and (page.imagelength, page.imagewidth) == size]
    mask = masks[0] if len(masks) == 1 and masks[0] is not first and masks[0].samplesperpixel == 1 else None
    return same, mask


def _walk(path: Path, pages: Any, *, chained: bool = True) -> Iterator[Any]:
    """The pages of a file (`chained`: linked one to the next), each once, whatever circles their links make."""
    seen, last = set(), None
    for index in range(_PAGES + 1):
        try:
            page = pages[index]
        except IndexError:
            if last is not None and chained and _next(last):
                raise ValueError("a page's link leads out of the file") from None
            return
        if page.offset in seen:
            raise ValueError("the pages' links make a circle")
        seen.add(page.offset)
        yield (last := page)
    raise DataError(f"{path}: more than {_PAGES} pages in one TIFF file; save it in parts, or as npy.")


def _next(page: Any) -> int:
    """Where the page says that the next one lies; 0: it is the last."""
    big, order = page.parent.is_bigtiff, page.parent.byteorder
    handle = page.parent.filehandle
    handle.seek(page.offset)
    (count,) = struct.unpack(order + ("Q" if big else "H"), handle.read(8 if big else 2))
    handle.seek(count * (20 if big else 12), 1)
    return struct.unpack(order + ("Q" if big else "I"), handle.read(8 if big else 4))[0]


def _reduced(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether `other` is (height, width) of a reduced copy: smaller, and of the same proportions within a pixel."""
    (height, width), (h, w) = size, other
    return h < height and w < width and abs(h * width - w * height) <= max(height, width)


def check_page(path: Path, page: Any) -> None:
    """DataError for what is not read here."""
    photometric, compression, bits = int(page.photometric), int(page.compression), page.bitspersample
    if photometric not in _READ:
        what = _NAMES.get(photometric, "")
        raise DataError(
            f"{path}: TIFF photometric interpretation {photometric} {what and f'({what}) '}is not read; save it as grey"
            " or RGB."
        )
    if compression not in (*tiff_blocks.OF_BYTES, *tiff_blocks.OF_PICTURES):
        raise DataError(
            f"{path}: TIFF compression {compression_name(page)} is not read; save it with deflate, LZW or JPEG."
        )
    kind = _KINDS.get(int(page.sampleformat) if isinstance(page.sampleformat, int) else -1)
    packed = isinstance(bits, int) and bits < 16 and kind == "u"
    if kind is None or not (packed or bits in (8, 16, 32, 64)) or (kind == "f" and bits == 8) or page.dtype is None:
        raise DataError(
            f"{path}: TIFF samples of format {page.sampleformat} and {bits} bits are not read; save it with 8, 16 or 32"
            " bits, or as npy."
        )
    if page.imagedepth > 1:
        raise DataError(f"{path}: a TIFF volume of {page.imagedepth} slices; save the slices as pages or files.")
    if photometric == _YCBCR and (page.samplesperpixel != 3 or (page.planarconfig == 2 and page.is_subsampled)):
        raise DataError(f"{path}: YCbCr of {page.samplesperpixel} samples, planes apart, is not read; save it as RGB.")
    predictor = int(page.predictor)
    fits = predictor == 1 or (bits in (8, 16, 32, 64) and (predictor == 2 or (predictor == 3 and kind == "f")))
    if compression in tiff_blocks.OF_BYTES and not fits:
        raise DataError(f"{path}: TIFF predictor {predictor} with {bits} bits is not read; save it without.")


def imagej_frames(file: Any, page: Any) -> int:
    """How many frames ImageJ wrote after one another behind the only page of a stack."""
    if not file.is_imagej or page.compression != tiff_blocks.NONE:
        return 1
    frames = int((file.imagej_metadata or {}).get("images", 1))
    if frames > _PAGES:
        raise ValueError(f"{frames} images")
    return max(1, frames)


def palette_of(path: Path, page: Any) -> np.ndarray | None:
    if int(page.photometric) != _PALETTE:
        return None
    colours = page.tags.valueof(320)
    count = 1 << page.bitspersample
    if colours is None or len(colours) % 3 or not 3 <= len(colours) <= 3 * count:
        raise DataError(f"{path}: a palette TIFF without its {count} colours; save it again.")
    colours = np.asarray(colours, np.uint16).reshape(3, -1).T
    # 16 bits a colour; some writers store 8, which libtiff, too, knows by their size.
    palette = np.zeros((count, 3), np.uint8)
    palette[: len(colours)] = colours if colours.max() < 256 else colours >> 8
    return palette


def nodata_number(path: Path, text: str) -> float:
    """GDAL_NODATA as a number."""
    word = text.strip(" \0").replace(",", ".")
    try:
        return int(word) if word.lstrip("+-").isdigit() else float(word)
    except ValueError:
        pass
    if "nan" in word.lower() or "#ind" in word.lower():  # -1.#QNAN of older Windows libraries
        return math.nan
    raise DataError(f"{path}: GDAL_NODATA {word[:40]!r} is not a number; set it anew (gdal_edit.py -a_nodata VALUE).")


def compression_name(page: Any) -> str:
    value = page.compression
    return f"{int(value)} ({value.name})" if hasattr(value, "name") else str(int(value))
