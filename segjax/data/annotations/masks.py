"""Label pictures as other data sets store them: ids in grey or palette PNGs, or the classes' colours."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.annotations.tally import Dropped
from segjax.data.decode import read_bytes
from segjax.data.palettes import Palette

_GREY, _DEPTHS = 0, (2, 4)  # PNG colour type; the depths that Pillow stretches to 0..255


class Mask(NamedTuple):
    """A label picture: integer ids [H, W] with their palette uint8 [N, 3] if it has one, or uint8 colours [H, W, 3]."""

    ids: np.ndarray | None
    palette: np.ndarray | None
    colours: np.ndarray | None


def read_mask(path: Path) -> Mask:
    """Opens a label PNG and decodes all of it. Raises Dropped."""
    try:
        data = read_bytes(path)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            if image.format not in ("PNG", "TIFF", "BMP", "GIF"):
                raise Dropped("mask of a format that changes values", f"{path} ({image.format})")
            array = np.asarray(image)
            if image.mode == "P":
                return Mask(array, np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3), None)
            if image.mode in ("RGB", "RGBA"):
                return Mask(None, None, np.ascontiguousarray(array[..., :3]))
            if array.ndim != 2 or array.dtype.kind not in "bui":
                raise Dropped("mask that holds no class ids", f"{path} ({image.mode})")
            ids = array.astype(np.int64)
            if image.format == "PNG" and data[25] == _GREY and data[24] in _DEPTHS:
                ids //= 255 // ((1 << data[24]) - 1)
            return Mask(ids, None, None)
    except DataError as error:
        raise Dropped("mask that cannot be read", str(error)) from error
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise Dropped("mask that cannot be read", f"{path} ({str(error).splitlines()[0]})") from error


def by_value(ids: np.ndarray, table: Mapping[int, int], path: Path) -> np.ndarray:
    """uint8 [H, W] of ids through {value: class id}. Raises Dropped for a value that is not in it."""
    values, inverse = np.unique(ids, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in table]
    if unknown:
        raise Dropped("mask with values outside the class list", f"{path} (value {unknown[0]})")
    return np.array([table[value] for value in values.tolist()], np.uint8)[inverse].reshape(ids.shape)


def by_colour(colours: np.ndarray, palette: Palette, void: tuple[int, int, int], path: Path) -> np.ndarray:
    """int64 [H, W] indices into `palette` of colours [H, W, 3]; `void` is 255. Raises Dropped for any other colour."""
    code = colours.astype(np.int64) @ np.array([65536, 256, 1])
    known = {r * 65536 + g * 256 + b: index for index, (r, g, b) in enumerate(palette)}
    known.setdefault(void[0] * 65536 + void[1] * 256 + void[2], IGNORE)
    values, inverse = np.unique(code, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in known]
    if unknown:
        colour = (unknown[0] >> 16, unknown[0] >> 8 & 255, unknown[0] & 255)
        raise Dropped("mask with colours outside the class list", f"{path} (colour {colour})")
    return np.array([known[value] for value in values.tolist()], np.int64)[inverse].reshape(code.shape)
