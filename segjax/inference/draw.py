"""Pictures of label maps: palette PNGs, overlays, error maps, strips with truth and prediction.

Pictures are uint8 [H, W, 3] in RGB order.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segjax.core.errors import ConfigError, DataError
from segjax.core.files import write_bytes
from segjax.core.schema import IGNORE

Palette = Sequence[tuple[int, int, int]]

VOID_COLOUR = (224, 224, 224)
RIGHT_COLOUR = (38, 70, 83)
WRONG_COLOUR = (230, 57, 70)
GAP = 4  # pixels between the pictures of a strip


def colour_labels(labels: np.ndarray, palette: Palette) -> np.ndarray:
    """The classes' colours of int [H, W]; VOID_COLOUR where there is no such class."""
    labels = np.asarray(labels).astype(np.int64)
    table = np.array([*palette, VOID_COLOUR], np.uint8)
    known = (labels >= 0) & (labels < len(palette))
    return table[np.where(known, labels, len(palette))]


def display(image: np.ndarray) -> np.ndarray:
    """[H, W, C] of any dtype as a picture: the first three channels (one: grey), other than uint8 stretched.

    The stretch maps the 1st to the 99th percentile of the image onto black to white.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    image = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float32)
    low, high = np.percentile(image, (1, 99))
    return np.rint(np.clip((image - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)


def overlay(image: np.ndarray, labels: np.ndarray, palette: Palette, alpha: float = 0.5) -> np.ndarray:
    """The classes' colours over an image, with their outlines; void pixels show the image.

    Args:
      image: [H, W, C].
      labels: int [H, W].
      alpha: share of the colour, 0 (image only) to 1.

    Raises:
      ConfigError: alpha outside 0..1.
      DataError: image and labels differ in size.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: {alpha} is outside 0..1.")
    picture, labels = display(image).astype(np.float32), np.asarray(labels)
    if picture.shape[:2] != labels.shape:
        raise DataError(f"overlay: the image is {_size(picture)}, the labels are {_size(labels)}.")
    colour = colour_labels(labels, palette).astype(np.float32)
    share = np.where((labels >= 0) & (labels < len(palette)), alpha, 0.0)[..., None].astype(np.float32)
    blended = picture * (1 - share) + colour * share
    if alpha > 0:
        blended[outline(labels)] *= 0.55
    return np.rint(blended).astype(np.uint8)


def outline(labels: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels whose right or lower neighbour has another label."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def error_map(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dark where the prediction is right, red where it is wrong, light where the truth is void."""
    wrong = np.asarray(prediction).astype(np.int64) != np.asarray(truth).astype(np.int64)
    picture = np.where(wrong[..., None], np.uint8(WRONG_COLOUR), np.uint8(RIGHT_COLOUR))
    picture[np.asarray(truth) == IGNORE] = VOID_COLOUR
    return picture


def strip(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, palette: Palette) -> np.ndarray:
    """Image, truth, prediction and errors, side by side."""
    parts = [display(image), colour_labels(truth, palette), colour_labels(prediction, palette)]
    parts.append(error_map(prediction, truth))
    gap = np.full((parts[0].shape[0], GAP, 3), 255, np.uint8)
    row = [piece for part in parts for piece in (gap, part)][1:]
    return np.concatenate(row, axis=1)


def legend(classes: Sequence[str], palette: Palette, columns: int = 4) -> np.ndarray:
    """A picture of the classes' colours and names."""
    font = ImageFont.load_default(size=14)
    cell = 34 + max(int(font.getlength(name)) for name in classes)
    columns = min(columns, len(classes))
    rows = -(-len(classes) // columns)
    sheet = Image.new("RGB", (columns * cell + 8, rows * 24 + 8), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, colour) in enumerate(zip(classes, palette)):
        left, top = 8 + i % columns * cell, 8 + i // columns * 24
        pen.rectangle((left, top, left + 15, top + 15), fill=tuple(colour), outline=(90, 90, 90))
        pen.text((left + 22, top - 1), name, fill="black", font=font)
    return np.asarray(sheet)


def save_labels(path: str | Path, labels: np.ndarray, palette: Palette) -> Path:
    """Writes label ids as a PNG in the classes' colours (mode P); 16-bit grey beyond 256 classes.

    Raises:
      StorageError: the file cannot be written.
    """
    labels = np.asarray(labels)
    if len(palette) > 256:
        return write_bytes(path, png_bytes(labels.astype(np.uint16)))
    picture = Image.fromarray(labels.astype(np.uint8))
    colours = np.tile(np.uint8(VOID_COLOUR), (256, 1))
    colours[: len(palette)] = np.asarray(palette, np.uint8)
    picture.putpalette(colours.ravel().tolist())
    return write_bytes(path, _encode(picture))


def save_picture(path: str | Path, picture: np.ndarray) -> Path:
    """Writes a picture as a PNG; raises StorageError when it cannot."""
    return write_bytes(path, png_bytes(picture))


def png_bytes(picture: np.ndarray) -> bytes:
    """PNG of uint8 [H, W, 3] or [H, W], or uint16 [H, W]."""
    return _encode(Image.fromarray(picture))


def jpeg_bytes(picture: np.ndarray, quality: int = 85) -> bytes:
    """JPEG of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
