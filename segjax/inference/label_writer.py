"""Label files written as their rows become known: a PNG, or a tiled TIFF that keeps its place on earth."""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import StorageError
from segjax.core.schema import IGNORE
from segjax.inference.draw import VOID_COLOUR, Palette

FORMATS = ("png", "tif")
_TILE = 256
_BIG = 2**32 - 2**25  # bytes; BigTIFF beyond, some room left for the directory
_GDAL_NODATA = 42113


def write_labels(
    path: Path,
    bands: Iterable[np.ndarray],
    size: tuple[int, int],
    palette: Palette,
    georeference: Mapping[int, tuple[int, Any]] | None = None,
) -> Path:
    """Writes label ids in the classes' colours, as PNG or TIFF by the suffix.

    At most 256 classes are a byte a pixel with a palette, more are 16 bits grey. A TIFF declares IGNORE as nodata.

    Args:
      bands: int [rows, W] each, from top to bottom; of any heights.
      size: (height, width).
      georeference: of a TIFF, {tag: (type, value)} as `segjax.data.tiff.TiffReader` reads it.

    Raises:
      StorageError: the file cannot be written; what stood there before stays.
    """
    dtype = np.dtype(np.uint8 if len(palette) <= 256 else np.uint16)
    bands = (np.asarray(band).astype(dtype) for band in bands)
    with _whole_file(path) as temporary:
        if path.suffix == ".png":
            with temporary.open("wb") as file:
                for part in _png(bands, size, dtype, _table(palette)):
                    file.write(part)
        else:
            _write_tiff(temporary, bands, size, dtype, palette, georeference or {})
    return path


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A temporary neighbour that takes the place of `path` in the end, or goes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(
            f"{path} could not be written: {error.strerror or error}; free space, or choose another place."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _table(palette: Palette) -> np.ndarray:
    """uint8 [256, 3], the colour of each id."""
    colours = np.tile(np.uint8(VOID_COLOUR), (256, 1))
    colours[: min(len(palette), 256)] = np.asarray(palette, np.uint8)[:256]
    return colours


def _png(bands: Iterable[np.ndarray], size: tuple[int, int], dtype: np.dtype, table: np.ndarray) -> Iterator[bytes]:
    """The parts of a PNG (PNG specification, third edition, sections 5 and 11): colour type 3, or 0 of 16 bits."""
    deep = dtype.itemsize > 1
    yield b"\x89PNG\r\n\x1a\n"
    yield _chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8 * dtype.itemsize, 0 if deep else 3, 0, 0, 0))
    if not deep:
        yield _chunk(b"PLTE", table.tobytes())
    stream = zlib.compressobj(6)
    for band in bands:
        lines = np.zeros((len(band), 1 + size[1] * dtype.itemsize), np.uint8)  # byte 0 of each: no filter
        lines[:, 1:] = np.ascontiguousarray(band.astype(dtype.newbyteorder(">"))).view(np.uint8)
        packed = stream.compress(lines.tobytes())
        if packed:
            yield _chunk(b"IDAT", packed)
    yield _chunk(b"IDAT", stream.flush())
    yield _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_tiff(
    path: Path,
    bands: Iterable[np.ndarray],
    size: tuple[int, int],
    dtype: np.dtype,
    palette: Palette,
    georeference: Mapping[int, tuple[int, Any]],
) -> None:
    import tifffile

    tags: list[tuple[int, int, int, Any, bool]] = []
    for code, (kind, value) in georeference.items():
        count = 0 if isinstance(value, str | bytes) else len(value) if isinstance(value, Sequence) else 1
        tags.append((code, int(kind), count, value, True))
    shown: dict[str, Any] = {"photometric": "minisblack"}
    if dtype.itemsize == 1:
        shown = {"photometric": "palette", "colormap": _table(palette).T.astype(np.uint16) * 257}
    if len(palette) <= IGNORE:
        tags.append((_GDAL_NODATA, 2, 0, str(IGNORE), True))
    with tifffile.TiffWriter(path, bigtiff=size[0] * size[1] * dtype.itemsize > _BIG) as writer:
        writer.write(
            _tiles(bands, size[1]),
            shape=size,
            dtype=dtype,
            tile=(_TILE, _TILE),
            compression="zlib",
            extratags=tags,
            metadata=None,
            software="segjax",
            **shown,
        )


def _tiles(bands: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """[256, 256] each, row by row of tiles; zeros beyond the picture."""
    for lines in _of_height(bands, _TILE):
        across = -(-width // _TILE)
        padded = np.zeros((_TILE, across * _TILE), lines.dtype)
        padded[: len(lines), :width] = lines
        yield from np.ascontiguousarray(padded.reshape(_TILE, across, _TILE).swapaxes(0, 1))


def _of_height(bands: Iterable[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """The rows of `bands` in bands of `height`; the last may be lower."""
    held: list[np.ndarray] = []
    for band in itertools.chain(bands, (None,)):
        held += [] if band is None else [band]
        while held and (sum(map(len, held)) >= height or band is None):
            rows = np.concatenate(held)
            yield rows[:height]
            held = [rows[height:]] if len(rows) > height else []
