"""TIFF files as arrays of any number of channels and any sample type, whole or a rectangle at a time.

`tifffile` reads the directories, `segjax.data.tiff_blocks` decodes strips and tiles. What the samples mean follows TIFF
revision 6.0, Adobe 1992: orientation, photometric interpretation (section 8, 16, 21), alpha (section 18).
"""

from __future__ import annotations

import contextlib
import contextvars
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.core.errors import DataError, first_line
from segjax.data import tiff_blocks
from segjax.data.limits import MAX_PIXELS, check_pixels, max_pixels
from segjax.data.tiff_pages import (
    check_page,
    choose_pages,
    compression_name,
    imagej_frames,
    nodata_number,
    palette_of,
)

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF's
GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737)  # GeoTIFF standard, OGC 19-008r4, section 7

_WHITE_IS_ZERO, _CMYK, _YCBCR = 0, 5, 6
_BYTES_A_PIXEL = 64  # of the limit on pixels: 16 channels of float32
_CACHE_BYTES = 1 << 28  # of decoded strips and tiles: a row of tiles across a very wide picture


class TiffPicture(NamedTuple):
    """What a TIFF file holds, upright.

    Attributes:
      samples: [H, W, C] in the file's own sample type; pages of one size are channels one after the other. WhiteIsZero
        is inverted, YCbCr and CMYK are RGB, associated alpha is taken out of the colours; palette indices are as they
        are. Samples of fewer than eight bits are uint8, their values unscaled.
      palette: uint8 [N, 3], the colours of the first sample's values, or None.
      nodata: the value that GDAL_NODATA declares as no measurement, or None.
      alpha: whether the last sample is alpha.
      bits: a sample's bits in the file; white is 2**bits - 1.
      masked: bool [H, W], pixels that the file's transparency mask leaves out, or None without one.
    """

    samples: np.ndarray
    palette: np.ndarray | None = None
    nodata: float | None = None
    alpha: bool = False
    bits: int = 8
    masked: np.ndarray | None = None


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does."""
    try:
        with path.open("rb") as file:
            return file.read(4) in STARTS
    except OSError:
        return False


def read_tiff(path: Path, data: bytes | None = None) -> TiffPicture:
    """A whole TIFF file.

    Args:
      data: the file's bytes, where they have been read already.

    Raises:
      DataError: a damaged file, one larger than the limit, or one that uses what is not read here.
    """
    with TiffReader(path, data, cache=0) as reader:
        height, width, channels = reader.shape
        check_pixels(path, height, width)
        if height * width * channels * reader.dtype.itemsize > _BYTES_A_PIXEL * max_pixels():
            raise DataError(
                f"{path}: {height}x{width}x{channels} of {reader.dtype} is more than {_BYTES_A_PIXEL} bytes for each "
                f"of {max_pixels():,} pixels, the limit; raise it with {MAX_PIXELS}=N, or cut the picture."
            )
        samples = reader.read(0, 0, height, width)
        masked = reader.read_mask(0, 0, height, width)
        return TiffPicture(samples, reader.palette, reader.nodata, reader.alpha, reader.bits, masked)


class TiffReader:
    """A TIFF file of any size, a rectangle at a time; only the strips and tiles that it touches are decoded.

    Attributes:
      shape: (height, width, channels), upright.
      dtype: of the samples.
      palette, nodata, alpha, bits: as in `TiffPicture`.
      orientation: 1 to 8, how the stored rows lie.
      georeference: {tag: (type, value)} of the GeoTIFF tags.
      block_bytes: what has to be decoded at once at least: the largest compressed strip or tile.
    """

    def __init__(self, path: Path, data: bytes | None = None, *, cache: int = _CACHE_BYTES):
        """
        Args:
          cache: bytes of decoded strips and tiles to keep for the next rectangle.

        Raises:
          DataError: as `read_tiff`, except for the size.
        """
        import tifffile

        self.path = path
        self._lock = threading.RLock()
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._held, self._kept = 0, cache
        self._file = None
        with self._told():
            try:
                self._file = tifffile.TiffFile(path if data is None else io.BytesIO(data))
                self._open()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> TiffReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
        self._cache.clear()

    def read(self, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """The samples [bottom - top, right - left, C] of a rectangle of the upright picture.

        Raises:
          DataError: the strips or tiles are damaged.
        """
        with self._told():
            place = self._stored(top, left, bottom, right)
            planes = [self._plane(plane, *place) for plane in range(len(self._planes))]
            return upright(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1), self.orientation)

    def read_mask(self, top: int, left: int, bottom: int, right: int) -> np.ndarray | None:
        """bool [bottom - top, right - left], pixels that the file's transparency mask leaves out, or None."""
        if self._mask is None:
            return None
        with self._told():
            found = self._blocks(-1, *self._stored(top, left, bottom, right))[..., 0]
            return upright(found == 0, self.orientation)

    def _open(self) -> None:
        pages, self._mask = choose_pages(self.path, self._file)
        first = pages[0]
        for page in (*pages, *(() if self._mask is None else (self._mask,))):
            check_page(self.path, page)
            if page is not self._mask and _kind(page) != _kind(first):
                raise DataError(
                    f"{self.path}: pages of {first.dtype} x {first.samplesperpixel} and of {page.dtype} x "
                    f"{page.samplesperpixel} samples in one TIFF file; save each as a file of its own."
                )
        height, width = first.imagelength, first.imagewidth
        if not all(isinstance(n, int) and n > 0 for n in (height, width, first.samplesperpixel)):
            raise ValueError(f"a picture of {height}x{width}x{first.samplesperpixel}")
        orientation = first.tags.valueof(274, 1)
        self.orientation = orientation if orientation in range(1, 9) else 1
        frames = imagej_frames(self._file, first) if len(pages) == 1 else 1
        frame = height * width * first.samplesperpixel * first.bitspersample // 8
        self._planes = [(page, 0) for page in pages] if frames == 1 else [(first, n * frame) for n in range(frames)]
        self._check_size(height, width)
        self.bits = first.bitspersample
        self.dtype = np.dtype(np.uint8) if first.dtype == bool else first.dtype.newbyteorder("=")
        extra = first.extrasamples
        self.alpha = len(self._planes) == 1 and bool(extra) and int(extra[-1]) in (1, 2)
        self._inks = int(first.photometric) == _CMYK and int(first.tags.valueof(332, 1)) == 1
        if self._inks and (first.samplesperpixel < 4 or self.dtype.kind != "u" or self.bits not in (8, 16)):
            raise DataError(
                f"{self.path}: CMYK of {first.samplesperpixel} samples of {self.dtype}; save it as RGB of 8 or 16 bits."
            )
        size = (width, height) if self.orientation >= 5 else (height, width)
        self.shape = (*size, (first.samplesperpixel - self._inks) * len(self._planes))
        self.palette = palette_of(self.path, first)
        self.nodata = self._nodata([page for page, _ in self._planes])
        self.georeference = {
            code: (first.tags[code].dtype, first.tags[code].value) for code in GEOREFERENCE if code in first.tags
        }

    def _check_size(self, height: int, width: int) -> None:
        """Refuses sizes that the file's bytes cannot stand for, before anything is allocated."""
        size = self._file.filehandle.size
        self.block_bytes = 0
        for page, shift in self._planes:
            needed = height * width * page.samplesperpixel * page.bitspersample // 8
            if page.compression != tiff_blocks.NONE:
                rows, across = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
                samples = page.samplesperpixel if page.planarconfig == 1 else 1
                self.block_bytes = max(self.block_bytes, rows * across * samples * page.bitspersample // 8)
            if 0 in page.databytecounts:  # left out, as GDAL does
                continue
            there = size - page.dataoffsets[0] - shift if shift else min(size, sum(page.databytecounts))
            if page.is_subsampled:
                needed //= 3
            if there * tiff_blocks.MOST.get(int(page.compression), needed) < needed:
                raise ValueError(f"{there} bytes for {height}x{width}x{page.samplesperpixel}")

    def _nodata(self, pages: Sequence[Any]) -> float | None:
        texts = {str(page.tags[42113].value) for page in pages if 42113 in page.tags}
        values = {nodata_number(self.path, text) for text in texts if text.strip(" \0")}
        if len({str(value) for value in values}) > 1:
            raise DataError(f"{self.path}: pages with different GDAL_NODATA {sorted(values)}; save them apart.")
        value = next(iter(values), None)
        if value is not None and int(pages[0].photometric) == _WHITE_IS_ZERO and self.dtype.kind == "u":
            value = (1 << self.bits) - 1 - value
        return value

    def _stored(self, top: int, left: int, bottom: int, right: int) -> tuple[int, int, int, int]:
        """The rectangle as it lies in the file."""
        height, width, _ = self.shape
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(f"rectangle {top, left, bottom, right} of a picture {height}x{width}")
        if self.orientation in (2, 3, 6, 7):
            left, right = width - right, width - left
        if self.orientation in (3, 4, 7, 8):
            top, bottom = height - bottom, height - top
        return (left, top, right, bottom) if self.orientation >= 5 else (top, left, bottom, right)

    def _plane(self, plane: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """The stored rectangle of one page, its samples as they are meant."""
        samples = self._blocks(plane, top, left, bottom, right)
        page = self._planes[plane][0]
        if int(page.photometric) == _WHITE_IS_ZERO and samples.dtype.kind == "u":
            samples = samples.dtype.type((1 << self.bits) - 1) - samples
        if self._inks:
            samples = _rgb_of_cmyk(samples)
        if self.alpha and int(page.extrasamples[-1]) == 1 and self.dtype.kind == "u":
            samples = _without_alpha(samples)
        return samples

    def _blocks(self, plane: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
        """The stored rectangle [h, w, samples] of one page (-1: the mask), as it is in the file."""
        page, shift = (self._mask, 0) if plane < 0 else self._planes[plane]
        height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        planar = page.planarconfig == 2 and samples > 1
        deep = 1 if planar else samples
        if page.is_tiled:
            block_height, block_width = page.tilelength, page.tilewidth
        else:
            block_height, block_width = min(page.rowsperstrip or height, height), width
        down, across = -(-height // block_height), -(-width // block_width)
        if len(page.dataoffsets) < down * across * (samples if planar else 1):
            raise ValueError(f"{len(page.dataoffsets)} strips or tiles for {height}x{width}")
        dtype = np.dtype(np.uint8) if page.dtype == bool else page.dtype.newbyteorder("=")
        out = np.empty((bottom - top, right - left, samples), dtype)
        for part in range(samples if planar else 1):
            channels = slice(part, part + 1) if planar else slice(None)
            for row in range(top // block_height, -(-bottom // block_height)):
                first, last = max(top, row * block_height), min(bottom, (row + 1) * block_height)
                for column in range(left // block_width, -(-right // block_width)):
                    begin, end = max(left, column * block_width), min(right, (column + 1) * block_width)
                    index = (part * down + row) * across + column
                    # A strip at the bottom may be short; a tile never is.
                    rows = block_height if page.is_tiled else min(block_height, height - row * block_height)
                    inside = first - row * block_height, last - row * block_height
                    block = self._block(plane, page, shift, index, (rows, block_width, deep), inside)
                    out[first - top : last - top, begin - left : end - left, channels] = block[
                        :, begin - column * block_width : end - column * block_width
                    ]
        return out

    def _block(
        self, plane: int, page: Any, shift: int, index: int, shape: tuple[int, int, int], inside: tuple[int, int]
    ) -> np.ndarray:
        """Rows `inside` of one strip or tile."""
        _, width, samples = shape
        offset, count = page.dataoffsets[index] + shift, page.databytecounts[index]
        if count == 0 or page.dataoffsets[index] == 0:
            # GDAL leaves out what is all nodata (SPARSE_OK).
            stored = nodata_number(self.path, str(page.tags[42113].value)) if 42113 in page.tags else 0
            dtype = np.uint8 if page.dtype == bool else page.dtype.newbyteorder("=")
            return np.broadcast_to(np.asarray(stored).astype(dtype), (inside[1] - inside[0], width, samples))
        row_bytes = -(-width * samples * page.bitspersample // 8)
        plain = page.compression == tiff_blocks.NONE and not (int(page.photometric) == _YCBCR and samples == 3)
        if plain:
            if not shift and count < inside[1] * row_bytes:
                raise ValueError(f"strip or tile {index} has {count} bytes, {inside[1] * row_bytes} are needed")
            data = self._bytes(offset + inside[0] * row_bytes, (inside[1] - inside[0]) * row_bytes, index)
            return tiff_blocks.decode_block(page, data, index, inside[1] - inside[0], width, samples)
        with self._lock:
            if (plane, index) in self._cache:
                self._cache.move_to_end((plane, index))
                return self._cache[plane, index][inside[0] : inside[1]]
        block = tiff_blocks.decode_block(page, self._bytes(offset, count, index), index, *shape)
        with self._lock:
            self._cache[plane, index] = block
            self._held += block.nbytes
            while self._held > self._kept and len(self._cache) > 1:
                self._held -= self._cache.popitem(last=False)[1].nbytes
        return block[inside[0] : inside[1]]

    def _bytes(self, offset: int, count: int, index: int) -> bytes:
        handle = self._file.filehandle
        with self._lock:
            handle.seek(offset)
            data = handle.read(count)
        if len(data) < count:
            raise ValueError(f"strip or tile {index} ends beyond the file")
        return data

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever a parser of bytes from anywhere raises, as a DataError of one line; its warnings are not printed."""
        quiet = _QUIET.set(True)
        try:
            yield
        except DataError:
            raise
        except tiff_blocks.MissingCodec as error:
            raise DataError(
                f"{self.path}: TIFF compression {_compression(self._file)} needs imagecodecs: pip install"
                " 'segjax[tiff]', or save the file with deflate or LZW."
            ) from error
        except OSError as error:
            if error.strerror:
                raise DataError(f"{self.path}: cannot be read ({error.strerror}).") from error
            raise DataError(
                f"{self.path}: damaged or truncated TIFF ({first_line(error)}); copy the file again."
            ) from error
        except MemoryError as error:
            raise DataError(f"{self.path}: not enough memory for this TIFF file.") from error
        except Exception as error:
            raise DataError(
                f"{self.path}: damaged or truncated TIFF ({first_line(error)}); copy the file again."
            ) from error
        finally:
            _QUIET.reset(quiet)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """[H, W, ...] of a picture that lies as `orientation` 1 to 8 says (TIFF 6.0, section 8), as it is to be shown."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


_QUIET = contextvars.ContextVar("quiet", default=False)  # while a file is read here, tifffile logs nothing


def _silence(record: logging.LogRecord) -> bool:
    return not _QUIET.get()


logging.getLogger("tifffile").addFilter(_silence)


def _kind(page: Any) -> tuple[Any, ...]:
    """What pages must have in common to be channels of one picture."""
    return page.dtype, page.samplesperpixel, int(page.photometric), page.bitspersample


def _rgb_of_cmyk(samples: np.ndarray) -> np.ndarray:
    """[H, W, 3 or more] of [H, W, 4 or more], without a colour profile: (white - ink) * (white - black) / white."""
    white = np.iinfo(samples.dtype).max
    light = (white - samples[..., :4]).astype(np.uint64)
    colours = (light[..., :3] * light[..., 3:] + white // 2) // white
    return np.concatenate([colours.astype(samples.dtype), samples[..., 4:]], axis=-1)


def _without_alpha(samples: np.ndarray) -> np.ndarray:
    """Colours that had been multiplied by alpha, divided by it again; what is wholly transparent is black."""
    white = np.iinfo(samples.dtype).max
    alpha = samples[..., -1:].astype(np.uint64)
    colours = np.minimum(samples[..., :-1] * np.uint64(white) // np.maximum(alpha, 1), white)
    colours = np.where(alpha == 0, 0, colours).astype(samples.dtype)
    return np.concatenate([colours, samples[..., -1:]], axis=-1)


def _compression(file: Any) -> str:
    return "" if file is None else compression_name(file.pages[0])
