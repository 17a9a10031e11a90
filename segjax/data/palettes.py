"""Colours of class labels, for label pictures and overlays."""

from __future__ import annotations

Palette = tuple[tuple[int, int, int], ...]

CAMVID: Palette = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
"""SegNet's colours of the 11 CamVid classes, in label order."""


def distinct(count: int) -> Palette:
    """`count` colours that differ clearly: class 0 is dark grey, the rest walk the hue circle by the golden angle.

    Lightness and saturation alternate, so that classes whose hues come close again still differ.
    """
    colours = [(70, 70, 70)]
    for index in range(1, count):
        hue = (0.02 + index * 0.381966) % 1.0
        value, saturation = ((0.95, 0.75), (0.70, 0.95), (0.90, 0.45))[index % 3]
        red, green, blue = (
            value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0))
            for k in ((n + 6.0 * hue) % 6.0 for n in (5, 3, 1))
        )
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colours[:count])
