"""Scenes by index: one function, and the map-style source over it that the input pipeline reads."""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.core.errors import DataError, suggest
from segjax.core.schema import IMAGE, INSTANCE, INSTANCE_AREA, INSTANCE_BOX, LABEL, NAME, DatasetInfo
from segjax.data.instances.objects import id_type, largest, make_instances, renumbered
from segjax.data.scenes.cells import render_cells
from segjax.data.scenes.labels import CLASSES, PALETTE, PANOPTIC_FACTOR, STREET_COUNT, THINGS
from segjax.data.scenes.layout import TIMES
from segjax.data.scenes.street import render_street

STYLES = ("street", "cells", "mixed")
SMALLEST = 16
"""Smallest height and width, pixels: below, a person is less than a pixel."""

LARGEST_ZOOM = 8.0
"""Beyond, hardly a thing is seen whole."""

_SPLITS = {"train": (0, 2000), "val": (1 << 40, 200), "test": (2 << 40, 200)}
"""split -> (first index, default count). Ranges 2**40 apart never meet."""

_SHOWN = ("image", "label", "instance", "panoptic")

_STATISTICS = {
    "street": ((104.2, 100.7, 101.0), (55.5, 54.7, 58.0)),
    "cells": ((115.8, 106.5, 113.3), (67.1, 57.4, 64.0)),
    "mixed": ((109.6, 103.4, 105.7), (59.5, 55.0, 59.3)),
}


def render(
    index: int,
    *,
    seed: int = 0,
    height: int = 128,
    width: int = 160,
    style: str = "street",
    frame: int = 0,
    zoom: float = 1.0,
    time: str = "any",
) -> dict[str, np.ndarray]:
    """Draw one scene.

    The layout depends on (seed, index) only; the size sets how finely it is seen, the frame (a tenth of a second each)
    where camera and things have moved to. In style `mixed` every third index is a field of cells.

    Args:
      index: which scene, 0 or more.
      seed: which world, 0 or more.
      height, width: pixels, at least 16 each; no multiple is asked for.
      style: `street`, `cells` or `mixed`.
      frame: which picture of the clip, 0 or more. The street is 96 m long: at 9 m/s, a hundred frames.
      zoom: 1 or more: how many times larger everything appears, in a view so much narrower.
      time: of day, in streets: `any`, `day`, `dusk` or `night`; what stands where does not depend on it.

    Returns:
      image: uint8 [H, W, 3].
      label: uint8 [H, W], a class of `CLASSES`, 255 = void.
      instance: uint16 [H, W], 0 = stuff and void, k = visible pixels of the scene's k-th thing, which keeps its number
        in all frames. The parts of a cell share the cell's number.
      panoptic: int32 [H, W], class * 1000 + instance, void included (255000).
      depth: float32 [H, W], metres for streets (sky 1000, a figure its plane's, a car its nearest point's), micrometres
        for cells.
      flow: float32 [H, W, 2], (right, down) pixels that the point seen moves by until the next frame, whether or not it
        is hidden then.

    Raises:
      DataError: index, seed, frame, zoom or size out of range, or an unknown style or time.
    """
    if min(height, width) < SMALLEST:
        raise DataError(f"scenes of {height}x{width} are too small: ask for {SMALLEST}x{SMALLEST} or more")
    if min(index, seed, frame) < 0:
        raise DataError(f"scenes need index, seed and frame of 0 or more, got {index}, {seed}, {frame}")
    _check_view(style, zoom, time)
    cells = style == "cells" or (style == "mixed" and index % 3 == 2)
    view = {"seed": seed, "height": height, "width": width, "frame": frame, "zoom": zoom}
    scene = render_cells(index, **view) if cells else render_street(index, **view, time=time)
    scene["panoptic"] = scene["label"].astype(np.int32) * PANOPTIC_FACTOR + scene["instance"]
    return scene


def _check_view(style: str, zoom: float, time: str) -> None:
    if style not in STYLES:
        raise DataError(f"scenes have no style {style!r}.{suggest(style, STYLES)}")
    if time not in TIMES:
        raise DataError(f"scenes have no time {time!r}.{suggest(time, TIMES)}")
    if not 1.0 <= zoom <= LARGEST_ZOOM:
        raise DataError(f"scenes need a zoom from 1 to {LARGEST_ZOOM:g}, got {zoom}")


def dataset_info(
    style: str = "street", annotations: tuple[str, ...] = (LABEL,), max_instances: int = 100
) -> DatasetInfo:
    """Classes, palette and pixel statistics of a style; things and id layers where `annotations` has `instance`.

    Streets use the first `STREET_COUNT` labels of the label space, so a network for them needs no more outputs; the
    other styles use all of it. Means and deviations are measured over 300 scenes of seed 0.
    """
    if style not in STYLES:
        raise DataError(f"scenes have no style {style!r}.{suggest(style, STYLES)}")
    count = STREET_COUNT if style == "street" else len(CLASSES)
    mean, std = _STATISTICS[style]
    info = DatasetInfo(name="scenes", classes=CLASSES[:count], palette=PALETTE[:count], mean=mean, std=std)
    if INSTANCE not in annotations:
        return info
    things = tuple(sorted(thing for thing in THINGS if thing < count))
    return dataclasses.replace(info, things=things, layers=1, max_instances=max_instances)


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """A split of scenes: `len(source)`, `source[i] -> {"image", "label", "name"}`; picklable, it holds numbers only.

    With `instance` among `annotations` a sample also has `instance` [H, W, 1], `instance_class`, `instance_crowd` (none
    is one), `instance_area` and `instance_box`. An instance is what `panoptic` gives one id: the pixels that a class
    has of one thing, in the order of their ids. One of fewer than `min_pixels` pixels is none; its label stays.

    Defaults: 128x160, because a cyclist or a lamp post still has the pixels to be told apart there, five poolings
    divide it and two cores can train on it in minutes; 2000 / 200 / 200 scenes, since a small network sees each
    training scene a few times in those minutes and 200 scenes bring the error of a mean IoU to about a hundredth.

    Attributes:
      split: `train`, `val` or `test`; no scene is in two of them, whatever the counts.
      count: number of scenes, None for the default.
      annotations: `label`, which is always there, and `instance`.
      min_pixels: the fewest pixels of an instance; below, nothing tells what it is.
      max_instances: those that are kept, the largest, at most 65,535.
      frames: None, or T: image, label and instance are clips [T, H, W, ...] from the scene's first frame on. Slots
        are those of the whole clip; area is the mean over frames, and there is no box.
    """

    split: str
    _: dataclasses.KW_ONLY
    count: int | None = None
    seed: int = 0
    height: int = 128
    width: int = 160
    style: str = "street"
    zoom: float = 1.0
    time: str = "any"
    annotations: tuple[str, ...] = (LABEL,)
    min_pixels: int = 8
    max_instances: int = 100
    frames: int | None = None

    def __post_init__(self):
        if self.split not in _SPLITS:
            raise DataError(f"scenes have no split {self.split!r}.{suggest(self.split, _SPLITS)}")
        _check_view(self.style, self.zoom, self.time)
        if self.count is not None and not 0 < self.count <= 1 << 40:
            raise DataError(f"scenes need a count of 1 or more, got {self.count}")
        for kind in self.annotations:
            if kind not in (LABEL, INSTANCE):
                raise DataError(f"scenes have no annotation {kind!r}.{suggest(str(kind), (LABEL, INSTANCE))}")
        if self.min_pixels < 1 or not 1 <= self.max_instances <= 65535 or (self.frames is not None and self.frames < 1):
            raise DataError(
                "scenes need min_pixels, max_instances (up to 65535) and frames of 1 or more, got"
                f" {self.min_pixels}, {self.max_instances}, {self.frames}"
            )

    def __len__(self) -> int:
        return _SPLITS[self.split][1] if self.count is None else self.count

    @property
    def largest(self) -> tuple[int, int]:
        """(height, width) of every scene."""
        return self.height, self.width

    def scene(self, i: int, frame: int = 0) -> dict[str, np.ndarray]:
        """Everything `render` knows of scene `i` of the split."""
        if not 0 <= i < len(self):
            raise IndexError(f"scene {i} of {len(self)} in split {self.split!r}")
        index = _SPLITS[self.split][0] + i
        size = {"height": self.height, "width": self.width, "zoom": self.zoom}
        return render(index, seed=self.seed, style=self.style, frame=frame, time=self.time, **size)

    def __getitem__(self, i: int) -> dict[str, np.ndarray | str]:
        i = int(i)
        clip = [self.scene(i, frame) for frame in range(self.frames or 1)]
        scene = {key: np.stack([one[key] for one in clip]) if self.frames else clip[0][key] for key in _SHOWN}
        sample = {IMAGE: scene["image"], LABEL: scene["label"], NAME: f"{self.split}_{i:06d}"}
        return sample | (self._instances(scene) if INSTANCE in self.annotations else {})

    def _instances(self, scene: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ids = np.where(scene["instance"] > 0, scene["panoptic"], 0)
        found, pixels = np.unique(ids[ids > 0], return_counts=True)
        kept = found[pixels >= self.min_pixels]
        # A clip is one tall picture to what follows: ids are the same in all its frames.
        layers = renumbered(ids, kept).reshape(-1, self.width, 1)
        arrays = largest(make_instances(layers, kept // PANOPTIC_FACTOR), self.max_instances).arrays()
        arrays[INSTANCE] = arrays[INSTANCE].reshape(*ids.shape, 1).astype(id_type(self.max_instances))
        if self.frames is not None:
            arrays[INSTANCE_AREA] /= self.frames
            del arrays[INSTANCE_BOX]
        return arrays
