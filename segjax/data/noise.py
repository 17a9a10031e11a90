"""Batches of noise in the shape of a training batch, for timing without a data set."""

from __future__ import annotations

import numpy as np

from segjax.core.fields import Fields
from segjax.core.schema import IMAGE, LABEL, PART, POINT_VALID, POINTS, SIZE, VALID
from segjax.data.pipeline import batch_fields, window_of


def noise_batch(fields: Fields, batch_size: int, num_classes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random pixels, coordinates and classes.

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
    for key in (VALID, POINT_VALID):
        if key in batch:
            batch[key][:] = True
    if SIZE in batch:
        batch[SIZE][:] = window_of(fields)
    return batch
