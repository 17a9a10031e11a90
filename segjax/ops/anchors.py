"""Anchors of a feature pyramid: constants of the program, computed once by numpy.

H, W of a level; A = sizes x ratios anchors a position. A ratio is height over width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segjax.core.errors import ModelError
from segjax.ops.geometry import Pair


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """float32 [len(sizes) * len(ratios), 4]: the anchors around 0, 0; the size is the outer loop.

    All ratios of a size have the same area, size squared (Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1).
    """
    size, ratio = (axis.ravel() for axis in np.meshgrid(np.float64(sizes), np.float64(ratios), indexing="ij"))
    half_width, half_height = size / np.sqrt(ratio) / 2, size * np.sqrt(ratio) / 2
    return np.stack([-half_width, -half_height, half_width, half_height], -1).astype(np.float32)


def pyramid_anchors(
    shapes: Sequence[Pair],
    strides: Sequence[int] = (4, 8, 16, 32, 64),
    sizes: Sequence[float | Sequence[float]] = (32, 64, 128, 256, 512),
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    offset: float = 0.0,
) -> list[np.ndarray]:
    """The anchors of each level, as detectron2 orders them: position outer, row by row; then size, then ratio.

    They are neither rounded (torchvision rounds them to whole pixels) nor clipped to the image. The defaults are those
    of Lin et al., Feature Pyramid Networks, CVPR 2017, section 4.1.

    Args:
      shapes: (H, W) of each level.
      strides: pixels of the image between two positions of a level.
      sizes: of each level in pixels: one number, or several.
      ratios: height over width.
      offset: of the first position, in strides: 0 is detectron2's, 0.5 the middle of a cell.

    Returns:
      float32 [H * W * A, 4] for each level, in pixels of the image.

    Raises:
      ModelError: as many shapes, strides and sizes are not given, or a number is not positive.
    """
    if not len(shapes) == len(strides) == len(sizes):
        raise ModelError(
            f"pyramid_anchors: {len(shapes)} shapes, {len(strides)} strides and {len(sizes)} sizes; give one a level"
        )
    if min(*strides, *np.ravel(np.concatenate([np.atleast_1d(s) for s in sizes])), *ratios) <= 0:
        raise ModelError(f"pyramid_anchors: strides={strides}, sizes={sizes}, ratios={ratios} must be positive")
    levels = []
    for (height, width), stride, size in zip(shapes, strides, sizes):
        y, x = np.meshgrid(*((np.arange(n) + offset) * stride for n in (height, width)), indexing="ij")
        position = np.stack([x, y, x, y], -1).astype(np.float32).reshape(-1, 1, 4)
        levels.append((position + cell_anchors(np.atleast_1d(size), ratios)).reshape(-1, 4))
    return levels
