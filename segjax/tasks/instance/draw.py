"""Pictures of instances: shades of a class's colour, outlines, boxes, and which of them were found.

Shape legend: H height, W width, n instances. Pictures are uint8 [H, W, 3].
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segjax.core.errors import ConfigError
from segjax.inference.draw import display

Colour = tuple[int, int, int]

FOUND_COLOUR = (42, 157, 143)
MISSED_COLOUR = (230, 57, 70)
FALSE_COLOUR = (244, 162, 97)
CROWD_COLOUR = (150, 150, 150)
_GOLDEN = 0.618034  # multiples of it, modulo 1, are never near one another
_OUTLINE, _LINE = 0.6, 2  # share of an outline's colour, the rest is white; width of lines in pixels


def shade(colour: Sequence[int], rank: int) -> Colour:
    """The colour of the `rank`-th instance of a class: its own for the first, then near it in hue and brightness."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    step = rank * _GOLDEN % 1
    hue = (hue + 0.09 * (step - 0.5 if rank else 0)) % 1
    value = max(value, 0.35) * (1 - 0.3 * step)
    saturation *= 1 - 0.35 * (rank * _GOLDEN**2 % 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def shades(classes: np.ndarray, palette: Sequence[Sequence[int]]) -> list[Colour]:
    """A colour for each instance, by its class and its place among those of that class."""
    ranks = [int(np.sum(classes[:index] == number)) for index, number in enumerate(classes)]
    return [shade(palette[number], rank) for number, rank in zip(classes, ranks)]


def paint(image: np.ndarray, masks: np.ndarray, colours: Sequence[Colour], alpha: float = 0.5) -> np.ndarray:
    """Masks over an image, with their outlines; the first lies on top.

    Args:
      image: [H, W, C].
      masks: bool [n, H, W].
      colours: of each mask.
      alpha: share of the colours, 0 (image only) to 1.

    Raises:
      ConfigError: alpha outside 0..1.
    """
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: {alpha} is outside 0..1.")
    photo = display(image)
    picture = photo.astype(np.float32)
    if alpha > 0:
        # Each pixel is painted once: a mask below others shows where they leave it visible.
        for mask, colour in reversed(list(zip(masks, colours))):
            edge = mask & ~_inner(mask)
            picture[mask] = (1 - alpha) * photo[mask] + alpha * np.float32(colour)
            picture[edge] = _OUTLINE * np.float32(colour) + (1 - _OUTLINE) * 255
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def frame(
    picture: np.ndarray, boxes: np.ndarray, colours: Sequence[Colour], texts: Sequence[str] | None = None
) -> np.ndarray:
    """Boxes [n, 4] as lines over a picture, with a text on the upper edge of each."""
    sheet = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=max(8, min(14, min(picture.shape[:2]) // 32)))
    for index in reversed(range(len(boxes))):
        x0, y0, x1, y1 = (round(float(edge)) for edge in boxes[index])
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colours[index], width=_LINE)
        if texts is not None:
            corner = (x0 + 2, max(0, y0 - font.size - 3))
            left, top, right, bottom = pen.textbbox(corner, texts[index], font=font)
            pen.rectangle((left - 2, top - 2, right + 2, bottom + 1), fill=colours[index])
            light = sum(colours[index]) > 3 * 140
            pen.text(corner, texts[index], fill="black" if light else "white", font=font)
    return np.asarray(sheet)


def match_pairs(
    masks: np.ndarray, classes: np.ndarray, true_masks: np.ndarray, true_classes: np.ndarray, threshold: float = 0.5
) -> list[tuple[int, int]]:
    """Pairs (instance, true instance) of one class and an IoU of at least `threshold`.

    Instances choose in their order, each the best that is left.
    """
    flat, true = (array.reshape(len(array), -1).astype(np.float32) for array in (masks, true_masks))
    both = flat @ true.T
    union = flat.sum(1)[:, None] + true.sum(1) - both
    iou = np.where(classes[:, None] == true_classes, both / np.maximum(union, 1), 0)
    pairs = []
    for index in range(len(masks) if len(true_masks) else 0):
        best = int(iou[index].argmax())
        if iou[index, best] >= threshold:
            pairs.append((index, best))
            iou[:, best] = 0
    return pairs


def _inner(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels of the mask whose four neighbours are in it too; the image's edge is no edge."""
    padded = np.pad(mask, 1, mode="edge")
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
