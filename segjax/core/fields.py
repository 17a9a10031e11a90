"""What each array of a batch is: the axes it has, how a view of the image moves it, what its padding holds.

The host pipeline, augmentation, sharding, planning and the benchmarks read this table, and know nothing else of a task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from segjax.core.schema import (
    CATEGORY,
    FEATURES,
    IGNORE,
    IMAGE,
    INSTANCE,
    INSTANCE_AREA,
    INSTANCE_BOX,
    INSTANCE_CLASS,
    INSTANCE_CROWD,
    INSTANCE_VALID,
    LABEL,
    PART,
    POINT_VALID,
    POINTS,
    SAMPLE,
    SIZE,
    VALID,
)

HEIGHT, WIDTH, POINT = "height", "width", "point"


class Kind(NamedTuple):
    """What is known of a key before any data set is.

    Attributes:
      axes: names of the axes, the batch axis left out.
      moves: how a view of the image moves it: `image` (interpolated), `label` (nearest pixel), or `none`.
      fill: what padding holds.
    """

    axes: tuple[str, ...] = ()
    moves: str = "none"
    fill: float = 0


KINDS = {
    IMAGE: Kind((HEIGHT, WIDTH, "channel"), "image"),
    LABEL: Kind((HEIGHT, WIDTH), "label", IGNORE),
    INSTANCE: Kind((HEIGHT, WIDTH, "layer"), "label"),
    INSTANCE_CLASS: Kind(("instance",)),
    INSTANCE_VALID: Kind(("instance",)),
    INSTANCE_CROWD: Kind(("instance",)),
    INSTANCE_AREA: Kind(("instance",)),
    INSTANCE_BOX: Kind(("instance", "coordinate")),
    POINTS: Kind((POINT, "coordinate")),
    POINT_VALID: Kind((POINT,)),
    PART: Kind((POINT,), fill=IGNORE),
    CATEGORY: Kind(),
    SIZE: Kind(("side",)),
    VALID: Kind(),
    SAMPLE: Kind(),
}
"""Every key of a batch; a task that needs another one adds it here."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a batch.

    Attributes:
      axes, moves, fill: as in `Kind`.
      shape: the length of each axis, the batch axis left out.
      dtype: numpy's name of it.
    """

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    moves: str = "none"
    fill: float = 0

    @property
    def spatial(self) -> bool:
        """Whether it has rows and columns of pixels."""
        return HEIGHT in self.axes


Fields = Mapping[str, Field]


def make_field(key: str, shape: tuple[int, ...], dtype: Any) -> Field:
    """The `Field` of one of `KINDS`.

    Raises:
      ValueError: a shape of another rank than the key's axes.
    """
    axes, moves, fill = KINDS[key]
    if len(shape) != len(axes):
        raise ValueError(f"{key}: shape {shape} has not the axes {axes}")
    return Field(axes, tuple(shape), np.dtype(dtype).name, moves, fill)


def labelled_image(size: tuple[int, int], channels: int = 3, dtype: Any = "uint8") -> dict[str, Field]:
    """`image` of so many channels and `label`, both of `size` (height, width)."""
    return {IMAGE: make_field(IMAGE, (*size, channels), dtype), LABEL: make_field(LABEL, tuple(size), "uint8")}


def axes_of(key: str) -> tuple[str, ...]:
    """The axes of a batch key, those of an encoder's features included."""
    if key.startswith(f"{FEATURES}/"):
        return KINDS[IMAGE].axes
    return KINDS[key].axes if key in KINDS else ()


def moves_as_label(key: str) -> bool:
    """Whether the key's array [B, H, W, ...] holds labels or ids of pixels."""
    return key in KINDS and KINDS[key].moves == "label"


def cut(array: np.ndarray, field: Field, corner: tuple[int, int] = (0, 0)) -> np.ndarray:
    """The window at `corner` (row, column) of an array, at the field's shape; `fill` beyond the array's end.

    Points are padded, and never left out. All further axes must have the field's length already.
    """
    start = {HEIGHT: corner[0], WIDTH: corner[1], POINT: 0}
    if any(axis == POINT and n > length for axis, n, length in zip(field.axes, array.shape, field.shape)):
        raise ValueError(f"an array of shape {array.shape} for a field of {field.shape}")
    array = array[tuple(slice(start.get(axis, 0), start.get(axis, 0) + n) for axis, n in zip(field.axes, field.shape))]
    if array.shape == field.shape:
        return array
    if any(axis not in start and n != length for axis, n, length in zip(field.axes, array.shape, field.shape)):
        raise ValueError(f"an array of shape {array.shape} for a field of {field.shape}")
    padded = np.full(field.shape, field.fill, array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded


def image_size(sample: Mapping[str, Any], fields: Fields) -> tuple[int, int] | None:
    """(height, width) of a sample's pixels; None where no field has any."""
    for key, field in fields.items():
        if field.spatial:
            shape = dict(zip(field.axes, sample[key].shape))
            return shape[HEIGHT], shape[WIDTH]
    return None
