"""The static sizes that images of any size are padded to, so that few programs are compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Size = tuple[int, int]
BUCKETS = 4  # an axis of very mixed images is rounded up to quarters of the longest


def round_up(size: Size, multiple: int) -> Size:
    """The smallest (height, width) of multiples of `multiple` that holds `size`."""
    height, width = (-(-n // multiple) * multiple for n in size)
    return height, width


def canvases(sizes: Sequence[Size], stride: int, fixed: Size | None = None) -> list[Size]:
    """The padded (height, width) of each image.

    Images that fit into `fixed` share it. The others share the largest, as evaluation pads them, while that leaves less
    than half of all pixels to padding; more mixed ones are rounded up to quarters of the longest height and width, at
    most 16 sizes.
    """
    if fixed is not None:
        fits = [height <= fixed[0] and width <= fixed[1] for height, width in sizes]
        others = iter(canvases([size for size, fit in zip(sizes, fits) if not fit], stride))
        return [round_up(fixed, stride) if fit else next(others) for fit in fits]
    if not sizes:
        return []
    longest = (max(h for h, _ in sizes), max(w for _, w in sizes))
    common = round_up(longest, stride)
    if 2 * sum(h * w for h, w in sizes) >= len(sizes) * common[0] * common[1]:
        return [common] * len(sizes)
    steps = [-(-n // (BUCKETS * stride)) * stride for n in longest]
    return [(round_up((h, h), steps[0])[0], round_up((w, w), steps[1])[1]) for h, w in sizes]


def pad_batch(images: Sequence[np.ndarray], canvas: Size, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [h, w, C] of one dtype, padded at the bottom and right with zeros, and their sizes.

    Returns:
      [batch_size, *canvas, C] and int32 [batch_size, 2]; missing images are zeros of size 0x0.
    """
    batch = np.zeros((batch_size, *canvas, images[0].shape[-1]), images[0].dtype)
    sizes = np.zeros((batch_size, 2), np.int32)
    for i, image in enumerate(images):
        height, width = image.shape[:2]
        batch[i, :height, :width] = image
        sizes[i] = height, width
    return batch, sizes
