"""A strip or tile of a TIFF file to samples: every compression, with the libraries that are there.

`imagecodecs` (the extra `tiff`) decodes everything. Without it zlib, lzma and the libtiff inside Pillow decode what
they can: a block is handed to libtiff as a TIFF file of one strip.

The unpacking follows TIFF revision 6.0, Adobe 1992 (sections 2, 14), and Adobe Photoshop TIFF technical note 3 for the
floating-point predictor.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import TiffImagePlugin, features

NONE, LZW, DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, (8, 32946), 32773, 34925, (34926, 50000)
FAX, JPEG = (2, 3, 4), (7, 33007)
# Codecs of bytes; the samples are in the bytes as they would be without compression.
OF_BYTES = (NONE, LZW, *DEFLATE, PACKBITS, LZMA, *ZSTD)
# Codecs of pictures, which know their samples: fax, JPEG, JPEG 2000, LERC, PNG, JPEG XR, WebP, JPEG XL.
OF_PICTURES = (*FAX, *JPEG, 33004, 33005, 34712, 34887, 34933, 34934, 50001, 50002)
# The most bytes that one byte of a block can stand for: zlib's technical notes, and the formats' own arithmetic.
MOST = {NONE: 1, 8: 1032, 32946: 1032, LZW: 4096, PACKBITS: 64}
_GREY, _YCBCR = 1, 6
_SHORT, _LONG, _BYTES, _RATIONAL = 3, 4, 7, 5


class MissingCodec(Exception):
    """A compression that needs a library which is not installed."""


def decode_block(page: Any, data: bytes, index: int, rows: int, width: int, samples: int) -> np.ndarray:
    """The samples of one strip or tile, before photometric interpretation; YCbCr has become RGB.

    Args:
      page: a `tifffile.TiffPage`.
      data: the block's bytes as they are in the file.
      index: the block's place among the page's.
      rows: rows that must be there, of `width` pixels of `samples` samples.

    Returns:
      [rows, width, samples] in native byte order.

    Raises:
      MissingCodec: `imagecodecs` is needed.
      ValueError, or what the codec raises: the bytes are not what they should be.
    """
    compression = int(page.compression)
    if compression not in OF_BYTES:
        return _decode_picture(page, data, index, rows, width, samples)
    if int(page.photometric) == _YCBCR and samples == 3:
        return _rgb_of_ycbcr(page, data, rows, width)
    row_bytes = -(-width * samples * page.bitspersample // 8)
    if page.fillorder == 2:
        data = _REVERSED[np.frombuffer(data, np.uint8)].tobytes()
    return unpack(page, _decompress(data, compression, rows, row_bytes), rows, width, samples)


def unpack(page: Any, data: bytes, rows: int, width: int, samples: int) -> np.ndarray:
    """[rows, width, samples] of decompressed bytes; packed samples become uint8 or uint16, their values unscaled."""
    bits, predictor = page.bitspersample, int(page.predictor)
    row_bytes = -(-width * samples * bits // 8)
    if len(data) < rows * row_bytes:
        raise ValueError(f"a block of {len(data)} bytes where {rows * row_bytes} are expected")
    lines = np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
    if bits not in (8, 16, 32, 64):
        return _unpack_bits(lines, bits)[:, : width * samples].reshape(rows, width, samples)
    dtype = page.dtype.newbyteorder("=")
    if predictor == 3:
        # Differences of bytes; each row holds the most significant byte of all its numbers, then the next, and so on.
        summed = np.cumsum(lines.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        planes = summed.reshape(rows, dtype.itemsize, width * samples)
        numbers = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return numbers.reshape(rows, width, samples).astype(dtype)
    array = lines.view(dtype.newbyteorder(page.parent.byteorder)).reshape(rows, width, samples).astype(dtype)
    if predictor == 2:
        whole = np.dtype(f"u{dtype.itemsize}")  # floats are differenced as whole numbers
        array = np.cumsum(array.view(whole), axis=1, dtype=whole).view(dtype)
    return array


def has_imagecodecs() -> bool:
    """Whether the package `imagecodecs` can be imported."""
    try:
        import imagecodecs
    except ImportError:
        return False
    return imagecodecs is not None


_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


def _unpack_bits(lines: np.ndarray, bits: int) -> np.ndarray:
    """[rows, n] numbers of `bits` bits each, most significant first; rows begin at a byte."""
    single = np.unpackbits(lines, axis=1)
    if bits == 1:
        return single
    count = single.shape[1] // bits
    kind = np.uint8 if bits < 8 else np.uint16
    numbers = np.zeros((len(lines), count), kind)
    for place in range(bits):
        numbers = numbers << kind(1) | single[:, place : count * bits : bits]
    return numbers


def _decompress(data: bytes, compression: int, rows: int, row_bytes: int) -> bytes:
    """At most rows * row_bytes bytes, so that a small block cannot fill the memory."""
    size = rows * row_bytes
    if size > MOST.get(compression, size) * len(data):
        raise ValueError(f"{len(data)} bytes for {size}")
    if compression == NONE:
        return data
    if compression in DEFLATE:
        # A little more than is needed, so that zlib comes to the checksum at the end.
        return zlib.decompressobj().decompress(data, size + 64)
    if compression == LZMA:
        import lzma

        return lzma.LZMADecompressor().decompress(data, size)
    if has_imagecodecs():
        import imagecodecs

        decode = {LZW: imagecodecs.lzw_decode, PACKBITS: imagecodecs.packbits_decode}.get(
            compression, imagecodecs.zstd_decode
        )
        return bytes(decode(data, out=size))
    tags = {
        256: (_LONG, [row_bytes]),
        257: (_LONG, [rows]),
        258: (_SHORT, [8]),
        259: (_SHORT, [compression]),
        262: (_SHORT, [_GREY]),
        277: (_SHORT, [1]),
    }
    return _libtiff(tags, data, rows).tobytes()


def _decode_picture(page: Any, data: bytes, index: int, rows: int, width: int, samples: int) -> np.ndarray:
    """A block of a codec that knows its samples itself."""
    if page.compression in JPEG:
        height, across = _jpeg_size(data)
        if height > page.imagelength + 2048 or across > page.imagewidth + 2048:  # a tile reaches beyond the picture
            raise ValueError(f"a JPEG of {height}x{across} for {rows}x{width}")
    if has_imagecodecs():
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader} if page.compression in JPEG else {}
        array = page.decode(data, index, **tables)[0]
        if array is None:
            raise ValueError("an empty block")
        array = array.reshape(-1, *array.shape[-2:])
    elif page.compression in FAX or (page.compression == 7 and samples in (1, 3, 4)):
        array = _libtiff(_tags(page, rows, width, samples), data, rows)
    else:
        raise MissingCodec
    array = np.asarray(array).reshape(*array.shape[:2], -1)
    if array.shape[0] < rows or array.shape[1] < width or array.shape[2] != samples:
        raise ValueError(f"a block of {list(array.shape)} samples where {[rows, width, samples]} are expected")
    return array[:rows, :width].astype(np.uint8 if array.dtype == bool else array.dtype)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(height, width) of the frame header (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 9 < len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ValueError("a JPEG without a frame header")


def _rgb_of_ycbcr(page: Any, data: bytes, rows: int, width: int) -> np.ndarray:
    """A block of luminance and subsampled colour differences; libtiff knows how they lie and what they mean."""
    return _libtiff(_tags(page, rows, width, 3), data, rows)


def _tags(page: Any, rows: int, width: int, samples: int) -> dict[int, tuple[int, list]]:
    """What libtiff must know of a block of `page`."""
    photometric = int(page.photometric) if samples > 1 else _GREY
    tags: dict[int, tuple[int, list]] = {
        256: (_LONG, [width]),
        257: (_LONG, [rows]),
        258: (_SHORT, [page.bitspersample] * samples),
        259: (_SHORT, [int(page.compression)]),
        262: (_SHORT, [photometric]),
        266: (_SHORT, [int(page.fillorder)]),
        277: (_SHORT, [samples]),
    }
    if samples == 4 and photometric == 2:
        tags[338] = (_SHORT, [2])
    for code, kind in {292: _LONG, 293: _LONG, 317: _SHORT, 347: _BYTES, 530: _SHORT}.items():
        value = page.tags.valueof(code)
        if value is not None and not (code == 317 and int(page.compression) not in OF_BYTES):
            tags[code] = (kind, list(value) if isinstance(value, bytes | Sequence) else [int(value)])
    for code in (529, 532):  # coefficients and ranges of YCbCr
        value = page.tags.valueof(code)
        if value is not None:
            tags[code] = (_RATIONAL, list(value))
    return tags


def _libtiff(tags: Mapping[int, tuple[int, list]], data: bytes, rows: int) -> np.ndarray:
    """[rows, width] or [rows, width, samples] uint8 of one strip, decoded by the libtiff inside Pillow."""
    if not features.check("libtiff"):
        raise MissingCodec
    try:
        picture = TiffImagePlugin.TiffImageFile(io.BytesIO(_one_strip(tags, data, rows)))
    except (SyntaxError, KeyError) as error:  # Pillow knows no mode for such samples, or no such compression
        raise MissingCodec from error
    if picture.mode == "YCbCr":
        picture = picture.convert("RGB")
    return np.asarray(picture).astype(np.uint8)[:rows]


def _one_strip(tags: Mapping[int, tuple[int, list]], data: bytes, rows: int) -> bytes:
    """A little-endian TIFF file of one strip."""
    codes = {_SHORT: "H", _LONG: "I", _BYTES: "B", _RATIONAL: "I"}
    every = {**tags, 273: (_LONG, [8]), 278: (_LONG, [rows]), 279: (_LONG, [len(data)]), 284: (_SHORT, [1])}
    start = 8 + len(data) + len(data) % 2
    tail = start + 2 + 12 * len(every) + 4
    directory, extra = struct.pack("<H", len(every)), b""
    for code, (kind, values) in sorted(every.items()):
        raw = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        count = len(values) // 2 if kind == _RATIONAL else len(values)
        if len(raw) > 4:
            raw, extra = struct.pack("<I", tail + len(extra)), extra + raw + b"\0" * (len(raw) % 2)
        directory += struct.pack("<HHI", code, kind, count) + raw.ljust(4, b"\0")
    head = struct.pack("<2sHI", b"II", 42, start)
    return head + data + b"\0" * (len(data) % 2) + directory + struct.pack("<I", 0) + extra
