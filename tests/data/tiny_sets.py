"""Tiny data sets on disk, and writers of the formats that no library here writes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[3] / "shared" / "data"


def shared(name: str) -> Path:
    """The folder of a real data set; skips the test where it is absent."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is absent")
    return SHARED / name


def make_folder(
    root: Path,
    *,
    splits: dict[str, int] | None = None,
    size: tuple[int, int] = (12, 16),
    classes: int = 3,
    seed: int = 0,
) -> Path:
    """A `folder` data set of random RGB PNGs and grey label PNGs, SPLIT/images/00.png with SPLIT/labels/00.png."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("".join(f"class {k}\n" for k in range(classes)))
    for split, count in (splits or {"train": 4, "val": 2}).items():
        (root / split / "images").mkdir(parents=True)
        (root / split / "labels").mkdir()
        for index in range(count):
            image = rng.integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{index:02d}.png")
            label = rng.integers(0, classes, size).astype(np.uint8)
            Image.fromarray(label).save(root / split / "labels" / f"{index:02d}.png")
    return root


def grey_png(values: np.ndarray, depth: int) -> bytes:
    """A grey PNG of 2 or 4 bits a pixel, which PIL reads but does not write (PNG specification, sections 5 and 11)."""
    height, width = values.shape
    shifts = np.arange(8 - depth, -1, -depth)
    padded = np.pad(values, ((0, 0), (0, -width % len(shifts))))
    packed = (padded.reshape(height, -1, len(shifts)) << shifts).sum(-1).astype(np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def tiff(array: np.ndarray, *, planar: bool = False, deflate: bool = False, tile: int = 0, order: str = "<") -> bytes:
    """A TIFF of [H, W, C] with any C: one strip a plane, or square tiles (TIFF 6.0, sections 2, 8 and 15)."""
    height, width, channels = array.shape
    array = array.astype(array.dtype.newbyteorder(order))
    blocks = []
    for plane in np.split(array, channels, axis=-1) if planar else [array]:
        if not tile:
            blocks.append(plane.tobytes())
            continue
        plane = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
        for top in range(0, height, tile):
            blocks += [plane[top : top + tile, left : left + tile].tobytes() for left in range(0, width, tile)]
    if deflate:
        blocks = [zlib.compress(block) for block in blocks]
    starts = np.cumsum([8, *map(len, blocks)]).tolist()
    sizes = [len(block) for block in blocks]
    tags: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [array.dtype.itemsize * 8] * channels),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [1]),
        277: ("H", [channels]),
        284: ("H", [2 if planar else 1]),
        339: ("H", [{"u": 1, "i": 2, "f": 3}[array.dtype.kind]] * channels),
    }
    if tile:
        tags |= {322: ("I", [tile]), 323: ("I", [tile]), 324: ("I", starts[:-1]), 325: ("I", sizes)}
    else:
        tags |= {273: ("I", starts[:-1]), 278: ("I", [height]), 279: ("I", sizes)}
    directory, extra = struct.pack(order + "H", len(tags)), b""
    tail = starts[-1] + 2 + 12 * len(tags) + 4
    for tag, (code, values) in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(raw) > 4:
            raw, extra = struct.pack(order + "I", tail + len(extra)), extra + raw
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[code], len(values)) + raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, starts[-1])
    return head + b"".join(blocks) + directory + struct.pack(order + "I", 0) + extra
