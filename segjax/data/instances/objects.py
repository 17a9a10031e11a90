"""The instances of one image, and what the readers of annotations share.

Shape legend: H height, W width, L layers, n instances. Slot k (from 0) is written as k + 1 in the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from scipy import ndimage

from segjax.core.schema import INSTANCE, INSTANCE_AREA, INSTANCE_BOX, INSTANCE_CLASS, INSTANCE_CROWD
from segjax.data.problem import Problem

INSTANCE_KEYS = (INSTANCE, INSTANCE_CLASS, INSTANCE_CROWD, INSTANCE_AREA, INSTANCE_BOX)
"""What a sample with instances has."""


class Instances(NamedTuple):
    """The instances of one image.

    Attributes:
      layers: uint8 or uint16 [H, W, L], as `data.id_layers.id_layers` makes them.
      classes: int32 [n], places in the set's list of classes.
      crowd: bool [n].
      area: float32 [n], what the annotation says, else the number of pixels.
      box: float32 [n, 4], x0, y0, x1, y1 of the annotation, else around the pixels; zeros where there are none.
    """

    layers: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    area: np.ndarray
    box: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """The instances by the keys of `core.schema`."""
        return dict(zip(INSTANCE_KEYS, self))


class Annotated(NamedTuple):
    """What the files say of one image.

    Attributes:
      instances: those that can be used; None where nothing of the image can.
      label: uint8 [H, W] where the same files hold class ids, else None.
      problems: what is wrong, and missing from `instances`, each naming file and id.
      notes: what was read and deserves a look.
    """

    instances: Instances | None
    label: np.ndarray | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


class Reader(Protocol):
    """The annotations of one image, not read yet.

    Attributes:
      file: the file they are in.
    """

    file: Path

    def read(self, size: tuple[int, int], label: np.ndarray | None = None) -> Annotated:
        """The annotations for an image of (height, width) `size`, of which `label` [H, W] is what its label file says.

        Raises:
          DataError: the file itself cannot be read.
        """
        ...


def make_instances(
    layers: np.ndarray,
    classes: np.ndarray | list[int],
    crowd: np.ndarray | list[bool] | None = None,
    area: Mapping[int, float] | None = None,
    box: Mapping[int, tuple[float, float, float, float]] | None = None,
) -> Instances:
    """Instances in `layers`; `area` and `box` are what is stated, by slot, in place of what the pixels show."""
    count = len(classes)
    areas, boxes = pixels_of(layers, count).astype(np.float32), boxes_of(layers, count)
    for slot, value in (area or {}).items():
        areas[slot] = value
    for slot, value in (box or {}).items():
        boxes[slot] = value
    crowds = np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool)
    return Instances(layers, np.asarray(classes, np.int32).reshape(count), crowds.reshape(count), areas, boxes)


def id_type(count: int) -> type:
    """The type of id layers that number so many instances."""
    return np.uint8 if count <= 255 else np.uint16


def pixels_of(layers: np.ndarray, count: int) -> np.ndarray:
    """int64 [n]: pixels of each slot in layers [H, W, L]."""
    return np.bincount(layers.ravel(), minlength=count + 1)[1 : count + 1]


def boxes_of(layers: np.ndarray, count: int) -> np.ndarray:
    """float32 [n, 4]: x0, y0, x1, y1 around the pixels of each slot, pixel j spanning j to j + 1; zeros without any."""
    boxes = np.zeros((count, 4), np.float32)
    for layer in np.moveaxis(layers, -1, 0):
        for slot, found in enumerate(ndimage.find_objects(layer)):
            if found is not None:
                rows, columns = found
                boxes[slot] = columns.start, rows.start, columns.stop, rows.stop
    return boxes


def renumbered(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """uint8 or uint16 [H, W, 1]: k + 1 where an id map [H, W] has the k-th of `kept` ids, 0 elsewhere."""
    order = np.argsort(kept, kind="stable")
    place = np.searchsorted(kept, values, sorter=order).clip(max=max(len(kept) - 1, 0))
    dtype = id_type(len(kept))
    if not len(kept):
        return np.zeros((*values.shape, 1), dtype)
    slots = order[place]
    return np.where(kept[slots] == values, slots + 1, 0).astype(dtype)[..., None]


def largest(instances: Instances, count: int) -> Instances:
    """The `count` instances with the most pixels, of equals the earlier ones, in their order; all where they fit."""
    number = len(instances.classes)
    if number <= count:
        return instances
    size = pixels_of(instances.layers, number)
    kept = np.sort(np.argsort(-size, kind="stable")[:count])
    table = np.zeros(number + 1, id_type(count))
    table[kept + 1] = np.arange(1, count + 1)
    layers = table[instances.layers]
    used = [layer for layer in range(layers.shape[-1]) if layers[..., layer].any()] or [0]
    return Instances(layers[..., used], *(array[kept] for array in instances[1:]))
