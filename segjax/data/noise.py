"""Batches of noise in the shape of a training batch, for timing without a data set."""

from __future__ import annotations

import math

import numpy as np

from segjax.core.fields import Fields
from segjax.core.schema import IMAGE, INSTANCE, INSTANCE_VALID, LABEL, PART, POINT_VALID, POINTS, SIZE, VALID
from segjax.data.pipeline import batch_fields, window_of


def noise_batch(fields: Fields, batch_size: int, num_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random pixels, coordinates and classes; of instances as many as there are slots.

    Args:
      fields: of `train_batches`; windows are all image.
      batch_size: samples.
      num_classes: labels are below it.
      seed: of both.
    """
    rng = np.random.default_rng(seed)
    batch = {}
    for key, field in batch_fields(fields).items():
        shape = (batch_size, *field.shape)
        if key == POINTS:
            batch[key] = rng.uniform(-1, 1, shape).astype(field.dtype)
            continue
        # Every integer type is filled with bytes: pixels that no camera gave, but of the right size.
        limit = 256 if key == IMAGE else num_classes if key in (LABEL, PART) else 1
        batch[key] = rng.integers(0, limit, shape, np.uint8).astype(field.dtype)
    for key in (VALID, POINT_VALID, INSTANCE_VALID):
        if key in batch:
            batch[key][:] = True
    if SIZE in batch:
        batch[SIZE][:] = window_of(fields)
    if INSTANCE in batch:
        batch[INSTANCE][..., 0] = _tiles(*batch[INSTANCE].shape[1:3], batch[INSTANCE_VALID].shape[1])
    return batch


def _tiles(height: int, width: int, count: int) -> np.ndarray:
    """int [H, W]: ids 1 to `count` of rectangles side by side, 0 where there are too few."""
    side = math.ceil(math.sqrt(count))
    ids = np.arange(height)[:, None] * side // height * side + np.arange(width) * side // width + 1
    return np.where(ids <= count, ids, 0)
