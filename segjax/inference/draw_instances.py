"""Pictures of instances: each in its own colour with its outline, box and a tag of class and score.

Pictures are uint8 [H, W, 3] in RGB order. Shapes: H height, W width, L layers, n instances.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segjax.core.errors import ConfigError, DataError
from segjax.inference.draw import Palette, display

_GOLDEN = 0.381966  # turns between the hues of one instance and the next, which leaves no two alike for long
_STRIPE = 4  # pixels, of a crowd's hatching
_SMALL = 320  # pixels of the longer side, below which a picture is magnified
_LIGHT = (0.299, 0.587, 0.114)  # ITU-R BT.601


def instance_overlay(
    image: np.ndarray,
    instances: np.ndarray,
    classes: Sequence[int] | np.ndarray,
    names: Sequence[str] = (),
    *,
    scores: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    crowd: np.ndarray | None = None,
    valid: np.ndarray | None = None,
    palette: Palette | None = None,
    alpha: float = 0.5,
    tags: bool = True,
) -> np.ndarray:
    """Instances over an image.

    Large ones are drawn first, so that small ones stay visible. Crowds are hatched.

    Args:
      image: [H, W, C].
      instances: bool [n, H, W], a mask each; or whole numbers [H, W, L], id layers in which k + 1 is slot k.
      classes: int [n].
      names: of the classes, for the tags; without them a tag has the class's number.
      scores: [n], written in per cent.
      boxes: [n, 4] x0, y0, x1, y1; default: around the masks.
      crowd, valid: bool [n]; what is not valid is not drawn.
      palette: colours of the classes, which their instances share; default: each instance has a hue of its own.
      alpha: share of the colour inside the outline, 0 to 1.
      tags: whether names and scores are written.

    Returns:
      uint8 [s H, s W, 3], s = `magnification` of (H, W) with tags, 1 without.

    Raises:
      ConfigError: alpha outside 0..1.
      DataError: image and masks differ in size.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: {alpha} is outside 0..1.")
    picture = display(image)
    masks = _masks(np.asarray(instances), len(classes))
    if masks.shape[1:] != picture.shape[:2]:
        sizes = " and ".join(f"{height}x{width}" for height, width in (picture.shape[:2], masks.shape[1:]))
        raise DataError(f"instance overlay: image and masks have the sizes {sizes}.")
    areas = masks.sum((1, 2))
    drawn = [k for k in np.argsort(-areas, kind="stable").tolist() if valid is None or valid[k]]
    scale = magnification(picture.shape[:2]) if tags else 1
    picture = picture.repeat(scale, 0).repeat(scale, 1).astype(np.float32)
    colours = [np.array(instance_colour(k) if palette is None else palette[classes[k]]) for k in range(len(classes))]
    rows, columns = np.indices(picture.shape[:2], sparse=True)
    stripes = (rows + columns) // _STRIPE % 2 == 0
    for k in drawn:
        mask = masks[k].repeat(scale, 0).repeat(scale, 1)
        filled = mask & stripes if crowd is not None and crowd[k] else mask
        picture[filled] = (1 - alpha) * picture[filled] + alpha * colours[k]
        picture[_border(mask)] = 0.3 * 255 + 0.7 * colours[k]
    sheet = Image.fromarray(np.rint(picture).astype(np.uint8))
    pen = ImageDraw.Draw(sheet)
    for k in drawn:
        box = _around(masks[k]) if boxes is None else np.asarray(boxes[k], float)
        if box is None:
            continue
        left, top, right, bottom = (scale * box).tolist()
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        pen.rectangle((left, top, right, bottom), outline=tuple(colours[k].tolist()))
        if tags:
            name = names[classes[k]] if len(names) else str(int(classes[k]))
            score = "" if scores is None else f" {100 * float(scores[k]):.0f}"
            _tag(pen, sheet.size, (left, top), name + score, tuple(colours[k].tolist()))
    return np.asarray(sheet)


def magnification(size: tuple[int, int]) -> int:
    """How many times a picture of (height, width) is enlarged, so that tags can be read on it."""
    return max(1, -(-_SMALL // max(size)))


def instance_colour(slot: int) -> tuple[int, int, int]:
    """A bright colour for an instance, unlike those of the slots before it."""
    hue = (0.58 + slot * _GOLDEN) % 1.0
    saturation, value = ((0.75, 1.0), (0.55, 0.95), (0.95, 0.85))[slot % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _masks(instances: np.ndarray, count: int) -> np.ndarray:
    """bool [n, H, W] of masks or id layers."""
    if instances.dtype == bool:
        return instances
    slots = np.arange(1, count + 1).reshape(-1, 1, 1)
    masks = np.zeros((count, *instances.shape[:2]), bool)
    for layer in np.moveaxis(instances, -1, 0):
        masks |= layer[None] == slots
    return masks


def _border(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels of the mask with a neighbour outside it, beside, above or below."""
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inner


def _around(mask: np.ndarray) -> np.ndarray | None:
    """x0, y0, x1, y1 of a mask; None where it has no pixel."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float) if len(rows) else None


def _tag(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    corner: tuple[float, float],
    text: str,
    colour: tuple[int, int, int],
) -> None:
    """Writes `text` on a plate of `colour` above `corner`, as near to it as the picture of (width, height) allows."""
    font = ImageFont.load_default(size=11)
    width, height = font.getlength(text) + 4, 13
    left = min(max(corner[0], 0), max(size[0] - width, 0))
    top = min(max(corner[1] - height, 0), max(size[1] - height, 0))
    pen.rectangle((left, top, left + width, top + height), fill=colour)
    ink = "black" if sum(share * part for share, part in zip(_LIGHT, colour)) > 140 else "white"
    pen.text((left + 2, top - 1), text, fill=ink, font=font)
