"""Label files to class ids: every format and depth, with the traps of silent conversion closed.

Check, prepare and `evaluate --predictions` read labels here. Pillow decodes them, as it alone keeps palette indices.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data.decode import encode_label, kind_of, open_npy, open_pillow, orientation_of, read_bytes
from segjax.data.layout import Layout
from segjax.data.tiff import read_tiff, upright

READ = "PNG, TIFF, BMP or npy"
_NODATA = -(2**52)  # of a float label, whose own may be no whole number
_TABLE = 65536  # values that a table maps; others are looked up one by one
_BLACK_AND_WHITE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)  # what a picture of one bit shows
_HOW_PALETTE = 'set data.options.palettes="indices" or "colours" to say which one counts'


class Label(NamedTuple):
    """One label file, read.

    Attributes:
      ids: uint8 [H, W], class ids, IGNORE where void.
      unknown: {value: pixels} of values without a meaning, IGNORE in `ids`.
      values: the integers that the file holds; empty for a picture read by its colours.
      colours: {(r, g, b): index} of the used colours of a palette that was read by its indices, else empty.
      nodata: pixels that the file itself declares to be no measurement.
    """

    ids: np.ndarray
    unknown: Mapping[int, int]
    values: frozenset[int] = frozenset()
    colours: Mapping[tuple[int, int, int], int] = {}
    nodata: int = 0


class _Raw(NamedTuple):
    """A file's samples: int64 [H, W] ids or uint8 [H, W, 3] colours; its palette uint8 [N, 3]; its nodata value."""

    values: np.ndarray
    palette: np.ndarray | None = None
    nodata: int | None = None
    mode: str = ""


def open_label(path: Path, layout: Layout) -> Label:
    """Reads one label file and maps its values to class ids.

    A picture of three channels is read by the colours of `layout.palette` where `layout.colours`; a palette picture too
    where all its colours are classes', by its indices where none is.

    Raises:
      DataError: an unreadable file, a colour that is no class's, a palette whose colours and indices say two things, a
        nodata value that is also a class.
    """
    raw = _open(path)
    if raw.values.ndim == 3:
        if layout.colours:
            return Label(_by_colour(path, raw.values, layout), {})
        if (raw.values != raw.values[..., :1]).any():
            raise DataError(
                f"{path}: the label is an {raw.mode} picture, not class ids; put the colours into classes.txt as"
                " `name r g b`."
            )
        raw = _Raw(raw.values[..., 0].astype(np.int64))
    colours: dict[tuple[int, int, int], int] = {}
    if raw.palette is not None:
        by_colour, colours = _palette_meaning(path, raw, layout)
        if by_colour:
            return Label(_by_palette(path, raw, layout), {})
    ids, unknown = class_ids(raw.values, layout)
    missing = 0
    if raw.nodata is not None and raw.nodata not in layout.stated:
        hit = raw.values == raw.nodata
        if hit.any() and layout.values.get(raw.nodata, IGNORE) != IGNORE:
            ident = layout.values[raw.nodata]
            raise DataError(
                f"{path}: declares {raw.nodata} to be nodata, and {raw.nodata} is class {layout.classes[ident]!r}; say"
                f" which with data.options.values={{{raw.nodata}: {ident}}} or data.options.ignore={raw.nodata}."
            )
        ids, missing = np.where(hit, IGNORE, ids).astype(np.uint8), int(hit.sum())
        unknown = {value: count for value, count in unknown.items() if value != raw.nodata}
    return Label(ids, unknown, frozenset(np.unique(raw.values).tolist()), colours, missing)


def read_label(path: Path, layout: Layout) -> tuple[bytes, Label]:
    """The bytes to store, of `encode_label`, and the label of `open_label`.

    Raises:
      DataError: as `open_label`, and for values that `layout.values` does not know.
    """
    label = open_label(path, layout)
    if label.unknown:
        value, count = next(iter(label.unknown.items()))
        more = f" and {len(label.unknown) - 1} other unknown values" if len(label.unknown) > 1 else ""
        how = f"; data.options.values={{{value}: CLASS}} or ignore={value} says what it is"
        raise DataError(
            f"{path}: label value {value} on {count} pixels{more}; {layout.name!r} has classes"
            f" 0..{len(layout.classes) - 1} and void {_void_values(layout)}{how if layout.name == 'folder' else ''}."
            f" {layout.way_out()}"
        )
    return encode_label(label.ids), label


def read_mask(path: Path) -> np.ndarray:
    """bool [H, W] of a mask file: which pixels are not 0."""
    raw = _open(path)
    return raw.values.any(-1) if raw.values.ndim == 3 else raw.values != 0


def read_numbers(path: Path) -> np.ndarray:
    """int64 [H, W] of a picture of ids: grey of any depth, indices of a palette, or r + 256 g + 65536 b of colours.

    Raises:
      DataError: an unreadable file, or one that changes values.
    """
    values = _open(path).values
    return values if values.ndim == 2 else values.astype(np.int64) @ np.array([1, 256, 65536])


def read_ids(path: Path, layout: Layout) -> Label:
    """A label file that a program wrote, its ids int32 [H, W], read as those of a data set are (`open_label`).

    Lists of networks may be longer than those of data sets: files of more than 255 classes hold ids, 255 is void.

    Raises:
      DataError: as `open_label`, and for a value that is no class.
    """
    count = len(layout.classes)
    if count <= IGNORE:
        label = open_label(path, layout)
    else:
        values = _open(path).values
        if values.ndim == 3:
            raise DataError(f"{path}: a colour picture, not label ids; write a grey PNG of 16 bits.")
        wrong, counts = np.unique(values[(values < 0) | (values >= count)], return_counts=True)
        label = Label(values, dict(zip(wrong.tolist(), counts.tolist())))
    if label.unknown:
        value, pixels = next(iter(label.unknown.items()))
        raise DataError(
            f"{path}: label {value} on {pixels} pixels; there are classes 0..{count - 1}, void is"
            f" {_void_values(layout)}."
        )
    return label._replace(ids=label.ids.astype(np.int32))


def class_ids(values: np.ndarray, layout: Layout) -> tuple[np.ndarray, dict[int, int]]:
    """uint8 ids [H, W] of a file's integers, and {value: pixels} of those without a meaning (IGNORE in the ids)."""
    table = np.full(_TABLE, -1, np.int16)
    for value, ident in layout.values.items():
        if 0 <= value < _TABLE:
            table[value] = ident
    outside = (values < 0) | (values >= _TABLE)
    ids = table[np.where(outside, 0, values)]
    if outside.any():
        ids[outside] = -1
        for value, ident in layout.values.items():
            if not 0 <= value < _TABLE:
                ids[values == value] = ident
    bad = ids < 0
    found, counts = np.unique(values[bad], return_counts=True) if bad.any() else ((), ())
    ids = np.where(bad, IGNORE, ids).astype(np.uint8)
    return ids, {int(v): int(n) for v, n in zip(found, counts)}


def _open(path: Path) -> _Raw:
    data = read_bytes(path)
    kind = kind_of(path, data, READ)
    if kind == "JPEG" or (kind == "WebP" and data[12:16] != b"VP8L"):
        raise DataError(
            f"{path}: a label is losslessly stored ({READ}), {kind} changes values; export it again as PNG."
        )
    if kind == "npy":
        return _integers(path, open_npy(path, data))
    if kind == "TIFF":
        found = read_tiff(path, data)
        samples = found.samples
        if samples.shape[-1] in (2, 4) and found.alpha:
            samples = samples[..., :-1]
        if samples.shape[-1] == 3 and samples.dtype == np.uint8:
            return _Raw(samples, mode="RGB")
        palette = _BLACK_AND_WHITE if found.bits == 1 and found.palette is None else found.palette
        return _integers(path, samples, found.nodata)._replace(palette=palette)
    image = open_pillow(path, data, kind)
    array = upright(np.asarray(image), orientation_of(image))
    if image.mode in ("RGB", "RGBA", "RGBX"):
        return _Raw(array[..., :3], mode=image.mode)
    if image.mode in ("LA", "La"):
        array = array[..., 0]
    array = array.astype(np.int64)
    if kind == "PNG":
        depth, colour_type = struct.unpack_from(">BB", data, 24)  # IHDR
        if colour_type == 0 and depth in (2, 4):
            array //= 255 // ((1 << depth) - 1)  # Pillow stretches 2- and 4-bit grey to 0..255
    palette = _BLACK_AND_WHITE if image.mode == "1" else None
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return _Raw(array, palette)


def _integers(path: Path, array: np.ndarray, nodata: float | None = None) -> _Raw:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 2 and array.size and array.dtype.kind == "f":  # a raster program's ids, perhaps
        if nodata is not None:  # which may be NaN or beyond whole numbers
            missing = np.isnan(array) if np.isnan(nodata) else array == array.dtype.type(nodata)
            array, nodata = np.where(missing, _NODATA, array), _NODATA
        if (np.rint(array) == array).all() and np.abs(array).max() <= abs(_NODATA):
            array = array.astype(np.int64)
    if array.ndim != 2 or array.dtype.kind not in "bui" or not array.size:
        raise DataError(f"{path}: a label is integers [H, W], this is {array.dtype} {list(array.shape)}.")
    whole = nodata is not None and float(nodata).is_integer()
    return _Raw(array.astype(np.int64), nodata=int(nodata) if whole else None)


def _palette_meaning(path: Path, raw: _Raw, layout: Layout) -> tuple[bool, dict[tuple[int, int, int], int]]:
    """Whether a palette picture is read by its colours; else the colours of the indices that it uses."""
    used = [int(index) for index in np.unique(raw.values)]
    shown = {index: tuple(raw.palette[index].tolist()) for index in used if index < len(raw.palette)}
    by_index = {colour: index for index, colour in shown.items()}
    if layout.palettes == "colours":
        return True, {}
    if layout.palettes == "indices" or not layout.colours or any(i in layout.stated for i in used if i != IGNORE):
        return False, by_index
    known = {tuple(colour): ident for ident, colour in enumerate(layout.palette)}
    known |= dict.fromkeys(layout.void_colours, IGNORE)
    meant = {index: known.get(colour) for index, colour in shown.items() if index != IGNORE}
    if all(ident is not None for ident in meant.values()) and len(meant) == len([i for i in used if i != IGNORE]):
        return True, {}
    for index, ident in meant.items():
        if ident is not None and ident != layout.values.get(index):
            name = "void" if ident == IGNORE else f"class {layout.classes[ident]!r}"
            other = next(i for i, k in meant.items() if k is None)
            raise DataError(
                f"{path}: palette index {index} shows {shown[index]}, the colour of {name} in classes.txt, and index"
                f" {other} shows {shown[other]}, which is no class's; {_HOW_PALETTE}."
            )
    return False, by_index


def _by_palette(path: Path, raw: _Raw, layout: Layout) -> np.ndarray:
    """uint8 [H, W] ids of a palette picture by its colours; index 255 is void unless its colour is a class's."""
    beyond = raw.values >= len(raw.palette)
    outside = raw.values[beyond & (raw.values != IGNORE)]
    if outside.size:
        raise DataError(f"{path}: palette index {int(outside[0])}, the palette has {len(raw.palette)} colours.")
    shown = raw.palette[np.where(beyond, 0, raw.values)]
    classes = {tuple(colour) for colour in layout.palette}
    last_is_class = len(raw.palette) > IGNORE and tuple(raw.palette[IGNORE].tolist()) in classes
    return _by_colour(path, shown, layout, void=np.zeros(beyond.shape, bool) if last_is_class else raw.values == IGNORE)


def _by_colour(path: Path, colours: np.ndarray, layout: Layout, void: np.ndarray | None = None) -> np.ndarray:
    """uint8 [H, W] ids of colours [H, W, 3]; those under `void` may be any."""
    code = (colours.astype(np.int64) * (65536, 256, 1)).sum(-1)
    known = {r * 65536 + g * 256 + b: k for k, (r, g, b) in enumerate(layout.palette)}
    known |= {r * 65536 + g * 256 + b: IGNORE for r, g, b in layout.void_colours if (r, g, b) not in layout.palette}
    if void is not None:
        code = np.where(void, -1, code)
        known[-1] = IGNORE
    values, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    unknown = [(v, n) for v, n in zip(values.tolist(), counts.tolist()) if v not in known]
    if unknown:
        value, count = unknown[0]
        rgb = (value >> 16, value >> 8 & 255, value & 255)
        raise DataError(
            f"{path}: label colour {rgb} on {count} pixels is no class's in classes.txt; list it there, or make it void"
            f" with data.options.ignore=({rgb},). {layout.way_out()}".rstrip()
        )
    ids = np.array([known[v] for v in values.tolist()], np.uint8)
    return ids[inverse].reshape(code.shape)


def _void_values(layout: Layout) -> str:
    return ", ".join(str(v) for v, ident in sorted(layout.values.items()) if ident == IGNORE)
