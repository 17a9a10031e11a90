"""Batches of noise in the shape of a training batch, for timing without a data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from segjax.core.schema import IMAGE, LABEL, VALID
from segjax.data.augment import EXTENT


def noise_batch(shapes: Mapping[str, Any], num_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random pixels and classes.

    Args:
      shapes: of `data.pipeline.train_batch_shapes`; windows are all image.
      num_classes: labels are below it.
      seed: of both.
    """
    rng = np.random.default_rng(seed)
    image, label = shapes[IMAGE], shapes[LABEL]
    sides = dict(zip(EXTENT, label.shape[1:]))
    # Every integer type is filled with bytes: pixels that no camera gave, but of the right size.
    pixels = rng.integers(0, 256, image.shape, np.uint8)
    return {
        IMAGE: pixels.astype(image.dtype),
        LABEL: rng.integers(0, num_classes, label.shape, np.uint8).astype(label.dtype),
        VALID: np.ones(shapes[VALID].shape, bool),
        **{name: np.full(shapes[name].shape, side, np.int32) for name, side in sides.items()},
    }
