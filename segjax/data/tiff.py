"""TIFF files as arrays of any number of channels and any sample type (TIFF revision 6.0, Adobe 1992).

cv2 stops at four channels and turns three into grey when the file does not call them colours; PIL stops at four.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from pathlib import Path

import numpy as np

from segjax.core.errors import DataError

_FIELD = {1: "B", 3: "H", 4: "I", 16: "Q"}  # byte, short, long, long8
_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES, _FORMAT = 322, 323, 324, 325, 339
_NONE, _LZW, _DEFLATE, _PACKBITS = 1, 5, (8, 32946), 32773


@dataclasses.dataclass(frozen=True)
class _Page:
    height: int
    width: int
    samples: int
    dtype: np.dtype
    planar: bool  # one plane a channel
    block: tuple[int, int]  # height, width of a strip or tile
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    compression: int
    predictor: int


def read_tiff(path: Path, data: bytes) -> np.ndarray:
    """[H, W, C] in the file's own sample type; the pages of a stack become channels.

    Raises:
      DataError: for a damaged file or one that uses what is not read here (JPEG compression, bit-packed samples).
    """
    try:
        pages = [_read_page(path, data, page) for page in _pages(path, data)]
        if len({page.shape[:2] for page in pages}) > 1:
            pages = pages[:1]  # the rest are reduced copies
        return np.concatenate(pages, axis=-1)
    except (struct.error, zlib.error, IndexError, ValueError, KeyError) as error:
        raise DataError(f"{path}: damaged or truncated TIFF ({error}); copy the file again.") from error


def _pages(path: Path, data: bytes) -> list[_Page]:
    order = "<" if data[:2] == b"II" else ">"
    (position,) = struct.unpack_from(order + "I", data, 4)
    pages = []
    while position:
        (count,) = struct.unpack_from(order + "H", data, position)
        tags = {}
        for index in range(count):
            entry = position + 2 + 12 * index
            tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
            if kind in _FIELD:
                code = f"{order}{length}{_FIELD[kind]}"
                inline = struct.calcsize(code) <= 4
                start = entry + 8 if inline else struct.unpack_from(order + "I", data, entry + 8)[0]
                tags[tag] = struct.unpack_from(code, data, start)
        pages.append(_page(path, tags, order))
        if len(pages) > 4096:
            raise ValueError("more than 4096 pages")
        (position,) = struct.unpack_from(order + "I", data, position + 2 + 12 * count)
    return pages


def _page(path: Path, tags: dict[int, tuple[int, ...]], order: str) -> _Page:
    def value(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    height, width, bits = tags[_HEIGHT][0], tags[_WIDTH][0], tags.get(_BITS, (1,))
    kind = {1: "u", 2: "i", 3: "f"}.get(value(_FORMAT, 1))
    if kind is None or len(set(bits)) > 1 or bits[0] not in (8, 16, 32, 64) or (kind == "f" and bits[0] == 8):
        raise DataError(f"{path}: TIFF samples of {bits} bits are not read; save it with 8, 16 or 32 bits, or as npy.")
    compression, predictor = value(_COMPRESSION, _NONE), value(_PREDICTOR, 1)
    if (
        compression not in (_NONE, _LZW, *_DEFLATE, _PACKBITS)
        or predictor not in (1, 2)
        or (predictor == 2 and kind == "f")
    ):
        raise DataError(
            f"{path}: TIFF compression {compression} with predictor {predictor} is not read; save it as npy, or as TIFF"
            " uncompressed, deflate or LZW."
        )
    tiled = _TILE_OFFSETS in tags
    block = (tags[_TILE_HEIGHT][0], tags[_TILE_WIDTH][0]) if tiled else (min(value(_ROWS, height), height), width)
    return _Page(
        height=height,
        width=width,
        samples=value(_SAMPLES, 1),
        dtype=np.dtype(f"{order}{kind}{bits[0] // 8}"),
        planar=value(_PLANAR, 1) == 2,
        block=block,
        offsets=tags[_TILE_OFFSETS if tiled else _STRIP_OFFSETS],
        counts=tags[_TILE_BYTES if tiled else _STRIP_BYTES],
        compression=compression,
        predictor=predictor,
    )


def _read_page(path: Path, data: bytes, page: _Page) -> np.ndarray:
    block_height, block_width = page.block
    channels = 1 if page.planar else page.samples
    down, across = -(-page.height // block_height), -(-page.width // block_width)
    planes = page.samples if page.planar else 1
    out = np.zeros((planes, down * block_height, across * block_width, channels), page.dtype)
    for index, (offset, count) in enumerate(zip(page.offsets, page.counts, strict=True)):
        plane, place = divmod(index, down * across)
        row, column = divmod(place, across)
        if offset + count > len(data):
            raise ValueError(f"block {index} ends beyond the file")
        samples = np.frombuffer(_decompress(data[offset : offset + count], page), page.dtype)
        top, left = row * block_height, column * block_width
        # A strip at the bottom may be short; a tile never is.
        rows = min(block_height, samples.size // (block_width * channels))
        if rows < min(block_height, page.height - top):
            raise ValueError(f"block {index} is too short")
        block = samples[: rows * block_width * channels].reshape(rows, block_width, channels)
        if page.predictor == 2:
            block = np.cumsum(block, axis=1, dtype=page.dtype.newbyteorder("="))
        out[plane, top : top + rows, left : left + block_width] = block
    array = out[:, : page.height, : page.width].transpose(1, 2, 0, 3).reshape(page.height, page.width, page.samples)
    return array.astype(page.dtype.newbyteorder("="))


def _decompress(block: bytes, page: _Page) -> bytes:
    if page.compression in _DEFLATE:
        return zlib.decompress(block)
    if page.compression == _LZW:
        return _lzw(block)
    if page.compression == _PACKBITS:
        return _packbits(block)
    return block


def _packbits(block: bytes) -> bytes:
    """Runs of bytes (TIFF 6.0, section 9)."""
    out, position = bytearray(), 0
    while position < len(block):
        head = block[position]
        if head < 128:
            out += block[position + 1 : position + 2 + head]
            position += 2 + head
        else:
            if head > 128:
                out += block[position + 1 : position + 2] * (257 - head)
            position += 2 if head > 128 else 1
    return bytes(out)


def _lzw(block: bytes) -> bytes:
    """TIFF's LZW: codes of 9 to 12 bits, most significant bit first, widened one code early (TIFF 6.0, section 13)."""
    clear, end = 256, 257
    bits, held, position = 9, 0, 0
    buffer = 0
    table: list[bytes] = []
    previous = b""
    out = bytearray()
    while True:
        while held < bits:
            if position == len(block):
                return bytes(out)
            buffer = (buffer << 8 | block[position]) & 0xFFFFFF
            position, held = position + 1, held + 8
        held -= bits
        code = buffer >> held & ((1 << bits) - 1)
        if code == end:
            return bytes(out)
        if code == clear:
            table, bits, previous = [bytes((k,)) for k in range(256)] + [b"", b""], 9, b""
            continue
        if code < len(table):
            entry = table[code]
        elif code == len(table) and previous:
            entry = previous + previous[:1]
        else:
            raise ValueError(f"LZW code {code} out of order")
        out += entry
        if previous:
            table.append(previous + entry[:1])
        previous = entry
        bits = min(12, max(9, (len(table) + 1).bit_length()))
