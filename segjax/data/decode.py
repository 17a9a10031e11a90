"""Image and label files to arrays and back: every format, checked, with the traps of silent conversion closed.

cv2, the fastest, decodes images (RGB order out) and stored labels; PIL opens the user's label files, as it alone keeps
palette indices.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.layout import Layout
from segjax.data.tiff import read_tiff

_NPY = b"\x93NUMPY"
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG"
_ORIENTATION = 0x0112  # EXIF tag
# RGB order from the decoder itself, a pass over the image less; the depth, and the image as it lies, are the file's.
_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
# Decodes in 0.6 to 0.75 of the time of what Pillow writes, at about its size (benchmarks/png_filters.py).
_UP_FILTERED = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_COMPRESSION, 6)
_BYTES_FOR_SPEED = 1.25  # a PNG that would grow by more keeps its own bytes (a palette's 8 bits a pixel, say)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; DataError when it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if not data:
        raise DataError(f"{path}: the file is empty; copy it again.")
    return data


def open_image(path: Path, channels: int | None = None) -> np.ndarray:
    """The image of one file, checked to be whole: uint8, uint16 or float32 [H, W, C].

    `channels` None drops a PNG's alpha; a number keeps four channels if it is 4, and repeats a grey image if it is 3.

    Raises:
      DataError: for an unreadable or truncated file, or channels that do not fit.
    """
    return _open_image(path, channels)[1]


def read_image(path: Path, channels: int | None = None) -> tuple[bytes, np.ndarray]:
    """Opens one image file as `open_image` does, to be stored.

    Returns the bytes to store, whose plain decode gives the array, and the array. A JPEG keeps its bytes where that is
    so; others are written anew so that they decode fast, unless a PNG would grow much by it.
    """
    data, array = _open_image(path, channels)
    if data is not None and data.startswith(_JPEG):
        return data, array
    encoded = encode_image(array)
    if data is not None and len(encoded) > _BYTES_FOR_SPEED * len(data):
        return data, array
    return encoded, array


def decode_image(data: bytes) -> np.ndarray:
    """uint8, uint16 or float32 [H, W, C] of stored bytes (PNG, JPEG or npy), in RGB order."""
    if data.startswith(_NPY):
        return np.load(io.BytesIO(data), allow_pickle=False)
    return _decode(data, _RGB if _is_rgb(data) else cv2.IMREAD_UNCHANGED)


def encode_image(array: np.ndarray) -> bytes:
    """Lossless bytes of [H, W, C]: PNG where PNG can hold it (1, 3 or 4 channels of uint8 or uint16), else npy."""
    if array.dtype in (np.uint8, np.uint16) and array.shape[-1] in (1, 3, 4):
        code = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[array.shape[-1]]
        ok, data = cv2.imencode(".png", array if code is None else cv2.cvtColor(array, code), _UP_FILTERED)
        assert ok, f"PNG of {array.shape} {array.dtype}"
        return data.tobytes()
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def read_label(path: Path, layout: Layout) -> tuple[bytes, np.ndarray]:
    """Opens one label file and maps its values to class ids.

    Returns the bytes to store, of `encode_label`, and uint8 ids [H, W].

    Raises:
      DataError: for an unreadable file, colours that are no class's, or values that `layout.values` does not know.
    """
    data = read_bytes(path)
    raw = _raw_label(path, data, layout)
    ids, unknown = class_ids(raw, layout)
    if unknown:
        value, count = next(iter(unknown.items()))
        more = f" and {len(unknown) - 1} other unknown values" if len(unknown) > 1 else ""
        raise DataError(
            f"{path}: label value {value} on {count} pixels{more}; {layout.name!r} has classes"
            f" 0..{len(layout.classes) - 1} and void {_void_values(layout)}. {layout.way_out()}"
        )
    return encode_label(ids), ids


def raw_label(path: Path, layout: Layout) -> np.ndarray:
    """The integer values [H, W] that the label file holds, before they are mapped to classes."""
    return _raw_label(path, read_bytes(path), layout)


def class_ids(raw: np.ndarray, layout: Layout) -> tuple[np.ndarray, dict[int, int]]:
    """uint8 ids [H, W] of raw values, and {value: pixels} of the values without a meaning (IGNORE in the ids)."""
    table = np.full(65536, -1, np.int16)
    for value, ident in layout.values.items():
        table[value] = ident
    outside = (raw < 0) | (raw > 65535)
    ids = table[np.where(outside, 0, raw)]
    bad = outside | (ids < 0)
    values, counts = np.unique(raw[bad], return_counts=True) if bad.any() else ((), ())
    ids = np.where(bad, IGNORE, ids).astype(np.uint8)
    return ids, {int(v): int(n) for v, n in zip(values, counts)}


def decode_label(data: bytes) -> np.ndarray:
    """uint8 [H, W] class ids of stored label bytes, an 8-bit grey PNG."""
    return _decode(data, cv2.IMREAD_GRAYSCALE)[..., 0]


def encode_label(ids: np.ndarray) -> bytes:
    """8-bit grey PNG of uint8 [H, W]. Unfiltered, which areas of one value need not be, it decodes faster."""
    ok, data = cv2.imencode(
        ".png", ids, (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 9)
    )
    assert ok, f"PNG of {ids.shape} {ids.dtype}"
    return data.tobytes()


def read_npy(path: Path, data: bytes) -> np.ndarray:
    """The array of an npy file; pickled objects are refused."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: damaged npy file ({_first_line(error)}); write it again with np.save.") from error


def _open_image(path: Path, channels: int | None) -> tuple[bytes | None, np.ndarray]:
    """The file's bytes if a plain decode of them gives the array, else None; the array."""
    data = read_bytes(path)
    if data.startswith(_NPY) or data[:4] in (b"II*\0", b"MM\0*"):
        array = _standard_type(read_npy(path, data) if data.startswith(_NPY) else read_tiff(path, data).samples, path)
        plain = False
    elif data.startswith((_PNG, _JPEG)):
        plain = _check_whole(path, data)
        array = decode_image(data) if plain else _decode(data, cv2.IMREAD_COLOR_RGB)
    else:
        raise DataError(f"{path}: not a PNG, JPEG, TIFF or npy file; convert it to one of them.")
    fitted = _fit_channels(array, channels, path, alpha=data.startswith(_PNG))
    return data if plain and fitted.shape == array.shape else None, fitted


def _raw_label(path: Path, data: bytes, layout: Layout) -> np.ndarray:
    if data.startswith(_NPY) or data[:4] in (b"II*\0", b"MM\0*"):
        array = read_npy(path, data) if data.startswith(_NPY) else read_tiff(path, data).samples
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 2 or array.dtype.kind not in "bui":
            raise DataError(f"{path}: a label is integers [H, W], this is {array.dtype} {list(array.shape)}.")
        return array.astype(np.int64)
    if not data.startswith(_PNG):
        raise DataError(f"{path}: a label is a PNG, TIFF or npy file, losslessly stored; convert it.")
    _check_whole(path, data)
    depth, kind = struct.unpack_from(">BB", data, 24)  # IHDR: bits a sample, colour type
    image = Image.open(io.BytesIO(data))
    if image.mode in ("RGB", "RGBA", "LA"):
        return _colour_label(path, np.asarray(image), image.mode, layout)
    array = np.asarray(image).astype(np.int64)
    if kind == 0 and depth in (2, 4):
        array //= 255 // ((1 << depth) - 1)  # PIL stretches 2- and 4-bit grey to 0..255
    return array


def _colour_label(path: Path, array: np.ndarray, mode: str, layout: Layout) -> np.ndarray:
    if mode == "LA":
        return array[..., 0].astype(np.int64)
    colour = array[..., :3].astype(np.int64)
    if not layout.colours:
        if (colour == colour[..., :1]).all():
            return colour[..., 0]
        raise DataError(
            f"{path}: the label is an {mode} picture, not class ids; put the colours into classes.txt as `name r g b`."
        )
    code = (colour * (65536, 256, 1)).sum(-1)
    known = {r * 65536 + g * 256 + b: k for k, (r, g, b) in enumerate(layout.palette)}
    values, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    unknown = [(v, n) for v, n in zip(values.tolist(), counts.tolist()) if v not in known and v != 0]
    if unknown:
        value, count = unknown[0]
        rgb = (value >> 16, value >> 8 & 255, value & 255)
        raise DataError(
            f"{path}: label colour {rgb} on {count} pixels is no class's in classes.txt. {layout.way_out()}"
        )
    ids = np.array([known.get(v, IGNORE) for v in values.tolist()], np.int64)
    return ids[inverse].reshape(code.shape)


def _check_whole(path: Path, data: bytes) -> bool:
    """Decodes the file with PIL, which (unlike cv2) refuses truncated data; whether the image is stored upright."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image.getexif().get(_ORIENTATION, 1) == 1
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: damaged or truncated ({_first_line(error)}); copy the file again.") from error


def _is_rgb(data: bytes) -> bool:
    """Whether a PNG or JPEG decodes to exactly three channels."""
    if data.startswith(_PNG):
        # Colour types 2 and 3 (PNG specification, 11.2.2); of a transparent colour (tRNS) cv2 makes a fourth channel.
        return data[25] in (2, 3) and data.find(b"tRNS", 33, data.find(b"IDAT", 33)) < 0
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:  # segments up to the frame header (ITU-T T.81, B.2.2)
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9] == 3
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode(data: bytes, flags: int) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if array is None:
        raise DataError("stored image bytes do not decode; delete the prepared copy and prepare the set again.")
    if array.ndim == 2:
        return array[..., None]
    if flags == cv2.IMREAD_UNCHANGED:
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB if array.shape[-1] == 3 else cv2.COLOR_BGRA2RGBA)
    return array


def _standard_type(array: np.ndarray, path: Path) -> np.ndarray:
    """[H, W, C] of uint8, uint16 or float32: wider integers and float64 become float32."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        raise DataError(f"{path}: an image is numbers [H, W, C] or [H, W], this is {array.dtype} {list(array.shape)}.")
    if array.dtype in (np.uint8, np.uint16):
        return array
    array = array.astype(np.uint8 if array.dtype == bool else np.float32)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise DataError(f"{path}: {count} pixel values are NaN or infinite; replace them before preparing.")
    return array


def _fit_channels(array: np.ndarray, channels: int | None, path: Path, *, alpha: bool) -> np.ndarray:
    found = array.shape[-1]
    if alpha and found == 4 and channels in (None, 3):
        return np.ascontiguousarray(array[..., :3])
    if channels is None or found == channels:
        return array
    if found == 1 and channels == 3:
        return np.repeat(array, 3, axis=-1)
    raise DataError(
        f"{path}: {found} channels where {channels} are expected (from the first image, or data.options.channels);"
        " convert it, or set data.options.channels."
    )


def _void_values(layout: Layout) -> str:
    return ", ".join(str(v) for v, ident in sorted(layout.values.items()) if ident == IGNORE)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
