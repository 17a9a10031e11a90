"""Image files to arrays and back: every format, checked, with the traps of silent conversion closed.

Check, prepare, train, evaluate and predict read pictures through `open_picture`, so that what one takes the others
take, with the same pixels. cv2, the fastest, decodes PNG and JPEG (RGB order out); Pillow proves a file whole and
decodes BMP and WebP; `segjax.data.tiff` reads TIFF.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**40))  # read when cv2 is imported; the limit here is ours
import cv2

from segjax.core.errors import DataError, first_line
from segjax.data.limits import check_pixels
from segjax.data.tiff import TiffPicture, TiffReader, read_tiff, upright

# `check_pixels` asks before anything is decoded, with a limit that users can set.
Image.MAX_IMAGE_PIXELS = None

READ = "PNG, JPEG, TIFF, BMP, WebP or npy"
_ORIENTATION = 0x0112  # EXIF tag
# RGB order from the decoder itself, a pass over the image less; the depth, and the image as it lies, are the file's.
_RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
# Decodes in 0.6 to 0.75 of the time of what Pillow writes, at about its size (benchmarks/png_filters.py).
_UP_FILTERED = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_COMPRESSION, 6)
_BYTES_FOR_SPEED = 1.25  # a PNG that would grow by more keeps its own bytes (a palette's 8 bits a pixel, say)
_DEFLATE_AT_BEST = 1100  # no byte of a deflate stream stands for more than 1,032 (zlib's technical notes)

_PNG, _JPEG, _NPY = "PNG", "JPEG", "npy"
_KINDS = {
    b"\x89PNG": _PNG,
    b"\xff\xd8": _JPEG,
    b"\x93NUMPY": _NPY,
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"BM": "BMP",
}
_OTHERS = {
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document",
    b"\0\0\0\x0cjP": "a JPEG 2000 picture",
    b"8BPS": "a Photoshop file",
    b"PK\x03\x04": "a zip file (npz, perhaps)",
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself (`git lfs pull` fetches it)",
    b"<svg": "an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}


class Picture(NamedTuple):
    """One image file.

    Attributes:
      pixels: uint8, uint16 or float32 [H, W, C], upright, RGB order.
      missing: bool [H, W, C], values that are no measurement (GDAL's nodata), or None where there are none.
    """

    pixels: np.ndarray
    missing: np.ndarray | None = None

    @property
    def void(self) -> np.ndarray | None:
        """bool [H, W]: pixels without any measurement, or None."""
        return None if self.missing is None else self.missing.all(-1)

    def filled(self, fill: Sequence[float]) -> np.ndarray:
        """`pixels` with `fill` [C], rounded for whole numbers, in place of what is missing."""
        if self.missing is None:
            return self.pixels
        values = np.asarray(fill, np.float64)
        if self.pixels.dtype.kind == "u":
            values = np.clip(np.rint(values), 0, np.iinfo(self.pixels.dtype).max)
        return np.where(self.missing, values.astype(self.pixels.dtype), self.pixels)


def read_bytes(path: Path) -> bytes:
    """The file's bytes; DataError when it cannot be read or is empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    if not data:
        raise DataError(f"{path}: the file is empty; copy it again.")
    return data


def kind_of(path: Path, data: bytes, accepted: str = READ) -> str:
    """`PNG`, `JPEG`, `TIFF`, `BMP`, `WebP` or `npy`, by the file's first bytes; DataError for anything else."""
    for start, kind in _KINDS.items():
        if data.startswith(start):
            return kind
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    found = next((what for start, what in _OTHERS.items() if data.startswith(start)), None)
    if found is None and data[4:8] == b"ftyp":
        found = "an HEIC, AVIF or video file"
    if found is None and data[128:132] == b"DICM":
        found = "a DICOM file"
    what = f"{found}, " if found else ""
    raise DataError(f"{path}: {what}not a {accepted} file; convert it to one of them.")


def open_picture(
    path: Path, channels: int | None = None, *, nodata: float | str | Sequence[float] | None = None
) -> Picture:
    """One image file, checked to be whole.

    Args:
      path: PNG, JPEG, TIFF, BMP, WebP or npy, told apart by their first bytes.
      channels: None drops the alpha of PNG, BMP and WebP; a number keeps four channels if it is 4, and repeats a grey
        image if it is 3.
      nodata: values that are no measurement, besides the one that a TIFF declares; "none": that one is data, too.

    Raises:
      DataError: for an unreadable, truncated or too large file, channels that do not fit, NaN that `nodata` does not
        name.
    """
    return _open(path, channels, nodata)[1]


def open_image(
    path: Path,
    channels: int | None = None,
    *,
    nodata: float | str | Sequence[float] | None = None,
    fill: Sequence[float] | None = None,
) -> np.ndarray:
    """The pixels of `open_picture`; what is missing becomes `fill` [C], or the mean of the image's other pixels."""
    picture = open_picture(path, channels, nodata=nodata)
    if picture.missing is None:
        return picture.pixels
    if fill is None:
        known = np.where(picture.missing, 0, picture.pixels.astype(np.float64)).sum((0, 1))
        fill = known / np.maximum((~picture.missing).sum((0, 1)), 1)
    return picture.filled(fill)


def tiff_picture(path: Path, found: TiffPicture, channels: int | None = None, *, nodata: object = None) -> Picture:
    """`open_picture` of what `segjax.data.tiff` has read: a whole file, or a rectangle of one."""
    array = found.samples
    if found.palette is not None:
        array = _coloured(path, array, found.palette)
    elif found.bits < 8:
        array = array * np.uint8(255 // (2**found.bits - 1))
    array = _fit_channels(_numbers(array, path), channels, path, kind="TIFF", alpha=found.alpha)
    missing = _missing(array, found.nodata, nodata, found.masked)
    return Picture(_standard_type(array, missing, path), missing)


def read_image(
    path: Path,
    channels: int | None = None,
    *,
    nodata: float | str | Sequence[float] | None = None,
    fill: Sequence[float] | None = None,
) -> tuple[bytes, Picture]:
    """Opens one image file as `open_picture` does, to be stored.

    Returns the bytes to store, whose plain decode gives the pixels with `fill` [C] where they are missing, and the
    picture. A JPEG keeps its bytes where that is so; others are written anew so that they decode fast, unless a PNG
    would grow much by it.
    """
    data, picture = _open(path, channels, nodata)
    if data is not None and data.startswith(b"\xff\xd8"):
        return data, picture
    pixels = picture.pixels if fill is None else picture.filled(fill)
    encoded = encode_image(pixels)
    if data is not None and len(encoded) > _BYTES_FOR_SPEED * len(data):
        return data, picture
    return encoded, picture


def decode_image(data: bytes) -> np.ndarray:
    """uint8, uint16 or float32 [H, W, C] of stored bytes (PNG, JPEG or npy), in RGB order."""
    if data.startswith(b"\x93NUMPY"):
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


def decode_label(data: bytes) -> np.ndarray:
    """uint8 [H, W] class ids of stored label bytes, an 8-bit grey PNG."""
    return _decode(data, cv2.IMREAD_GRAYSCALE)[..., 0]


def decode_grey(data: bytes) -> np.ndarray:
    """uint8 or uint16 [H, W] of a grey PNG."""
    return _decode(data, cv2.IMREAD_UNCHANGED)[..., 0]


def encode_label(ids: np.ndarray) -> bytes:
    """Grey PNG of uint8 or uint16 [H, W]. Unfiltered, which areas of one value need not be, it decodes faster."""
    ok, data = cv2.imencode(
        ".png", ids, (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 9)
    )
    assert ok, f"PNG of {ids.shape} {ids.dtype}"
    return data.tobytes()


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, upright, from its header where that tells.

    Raises:
      DataError: an unreadable file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
        kind = kind_of(path, head) if head else ""
        if kind == _NPY:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            if len(shape) in (2, 3):
                return shape[:2]
        elif kind == "TIFF":
            with TiffReader(path) as reader:
                return reader.shape[:2]
        elif kind in (_PNG, _JPEG, "BMP", "WebP"):
            with Image.open(path) as picture:
                width, height = picture.size
                lying = orientation_of(picture) >= 5
                return (width, height) if lying else (height, width)
    except OSError as error:
        if error.strerror:
            raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except DataError:
        raise
    except Exception:  # of the header's readers; reading the whole file says better what is wrong with it
        pass
    return open_picture(path).pixels.shape[:2]


def open_npy(path: Path, data: bytes) -> np.ndarray:
    """The array of an npy file; pickled objects, and sizes that the file does not hold, are refused."""
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if header is not None:
            shape, _, dtype = header(file)
            if dtype.itemsize * math.prod(shape) > len(data):
                raise ValueError(f"an array of {list(shape)} {dtype} in {len(data)} bytes")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python, which fails in any way at all
        raise DataError(f"{path}: damaged npy file ({first_line(error)}); write it again with np.save.") from error


def open_pillow(path: Path, data: bytes, kind: str) -> Image.Image:
    """A whole, decoded picture of Pillow, which (unlike cv2) refuses truncated data; its size is checked first."""
    try:
        image = Image.open(io.BytesIO(data), formats=(kind.upper(),))
    except Exception as error:  # a parser of bytes from anywhere may fail in any way
        raise DataError(f"{path}: damaged or truncated ({first_line(error)}); copy the file again.") from error
    width, height = image.size
    check_pixels(path, height, width)
    if kind == _PNG:
        depth, samples = data[24], {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(data[25], 1)
        if height * (width * depth * samples // 8) > _DEFLATE_AT_BEST * len(data):
            raise DataError(f"{path}: damaged or truncated ({len(data)} bytes for {height}x{width}); copy it again.")
    if kind in (_PNG, "WebP") and getattr(image, "n_frames", 1) > 1:  # phones put previews behind a JPEG
        raise DataError(f"{path}: {image.n_frames} pictures in one {kind} file; save each as a file of its own.")
    try:
        image.load()
    except Exception as error:
        raise DataError(f"{path}: damaged or truncated ({first_line(error)}); copy the file again.") from error
    return image


def orientation_of(image: Image.Image) -> int:
    """How the picture lies, 1 to 8 (EXIF 2.32, section 4.6.4); 1, upright, where its tag is absent or means nothing."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1
    return found if found in range(1, 9) else 1


def _open(path: Path, channels: int | None, nodata: object) -> tuple[bytes | None, Picture]:
    """The file's bytes if a plain decode of them gives the pixels, else None; the picture."""
    data = read_bytes(path)
    kind = kind_of(path, data)
    alpha = False
    if kind == _NPY:
        array = _numbers(open_npy(path, data), path)
        check_pixels(path, *array.shape[:2])
    elif kind == "TIFF":
        return None, tiff_picture(path, read_tiff(path, data), channels, nodata=nodata)
    else:
        image = open_pillow(path, data, kind)
        orientation = orientation_of(image)
        if kind in (_PNG, _JPEG):
            array = _decode_file(path, data)
            if kind == _PNG and data[25] in (0, 4) and array.shape[-1] == 4:
                array = array[..., ::3]  # grey with alpha or a transparent grey, of which cv2 makes four channels
        else:
            array = _pillow_array(image)
        array = upright(array, orientation)
        alpha = array.shape[-1] in (2, 4)
        if orientation != 1 or kind not in (_PNG, _JPEG):
            data = None
    fitted = _fit_channels(_numbers(array, path), channels, path, kind=kind, alpha=alpha)
    missing = _missing(fitted, None, nodata, None)
    pixels = _standard_type(fitted, missing, path)
    plain = kind in (_PNG, _JPEG) and data is not None and missing is None and fitted.shape == array.shape
    return data if plain else None, Picture(pixels, missing)


def _decode_file(path: Path, data: bytes) -> np.ndarray:
    try:
        return decode_image(data)
    except DataError as error:
        raise DataError(f"{path}: damaged: Pillow reads it and OpenCV does not; save it again.") from error


def _pillow_array(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, C] of a BMP or WebP picture."""
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _coloured(path: Path, indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    if indices.size and int(indices.max()) >= len(palette):
        raise DataError(f"{path}: palette index {int(indices.max())}, the palette has {len(palette)} colours.")
    return palette[indices[..., 0]]


def _is_rgb(data: bytes) -> bool:
    """Whether a PNG or JPEG decodes to exactly three channels."""
    if data.startswith(b"\x89PNG"):
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
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        array = None
    if array is None:
        raise DataError("stored image bytes do not decode; delete the prepared copy and prepare the set again.")
    if array.ndim == 2:
        return array[..., None]
    if flags == cv2.IMREAD_UNCHANGED:
        return cv2.cvtColor(array, cv2.COLOR_BGR2RGB if array.shape[-1] == 3 else cv2.COLOR_BGRA2RGBA)
    return array


def _numbers(array: np.ndarray, path: Path) -> np.ndarray:
    """[H, W, C] of numbers."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        raise DataError(f"{path}: an image is numbers [H, W, C] or [H, W], this is {array.dtype} {list(array.shape)}.")
    return array


def _missing(array: np.ndarray, declared: float | None, nodata: object, masked: np.ndarray | None) -> np.ndarray | None:
    """bool [H, W, C] of values that are no measurement, None where all are.

    Zeros of unsigned types may as well be dark: there a pixel is missing only where all of its channels are.
    """
    if nodata == "none":
        return None
    named = [] if nodata is None else list(nodata) if isinstance(nodata, list | tuple) else [nodata]
    if not named and declared is None and masked is None:
        return None
    missing = np.broadcast_to(False if masked is None else masked[..., None], array.shape).copy()
    for value in [*named, *([] if declared is None else [declared])]:
        value = float(value)
        if math.isnan(value):
            hit = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
        else:
            # In the file's own type, as float32 has no -3.4028234663852886e+38 of float64's digits.
            with np.errstate(over="ignore"):
                hit = array == (array.dtype.type(value) if array.dtype.kind == "f" else value)
            if value == 0 and array.dtype.kind == "u":
                hit = np.broadcast_to(hit.all(-1, keepdims=True), array.shape)
        missing |= hit
    return missing if missing.any() else None


def _standard_type(array: np.ndarray, missing: np.ndarray | None, path: Path) -> np.ndarray:
    """[H, W, C] of uint8, uint16 or float32: wider integers and float64 become float32."""
    if array.dtype in (np.uint8, np.uint16):
        return array
    with np.errstate(over="ignore"):  # of float64; told below
        array = array.astype(np.uint8 if array.dtype == bool else np.float32)
    wrong = ~np.isfinite(array)
    if missing is not None:
        wrong &= ~missing
    if wrong.any():
        raise DataError(
            f"{path}: {int(wrong.sum())} pixel values are NaN or infinite; replace them before preparing, or set"
            " data.options.nodata='nan' (or 'inf'): they become the mean, and void in the label."
        )
    return array


def _fit_channels(array: np.ndarray, channels: int | None, path: Path, *, kind: str, alpha: bool) -> np.ndarray:
    found = array.shape[-1]
    # The last channel of a TIFF may be a band that its writer only called alpha: it stays where nobody counts them.
    if alpha and channels != found and (kind != "TIFF" or channels is not None):
        array, found = np.ascontiguousarray(array[..., :-1]), found - 1
    if channels is None or found == channels:
        return array
    if found == 1 and channels == 3:
        return np.repeat(array, 3, axis=-1)
    raise DataError(
        f"{path}: {found} channels where {channels} are expected (by the network, the first image or"
        " data.options.channels); convert it, or, where a set is prepared, set data.options.channels."
    )
