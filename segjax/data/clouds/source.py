"""Clouds by index: one function, and the map-style source over it that the input pipeline reads."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from segjax.core.errors import DataError, suggest
from segjax.core.schema import CATEGORY, NAME, PART, POINTS, DatasetInfo
from segjax.data.clouds.shapes import CATEGORIES
from segjax.data.palettes import distinct
from segjax.data.scenes.texture import stream

SPLITS = {"train": (0, 2000), "val": (1 << 40, 100), "test": (2 << 40, 100)}
"""split -> (first index, default count). Ranges 2**40 apart never meet."""

_PURPOSE = 0xC10D  # of the streams, so that no scene shares one
_FEWEST = 64


def draw_cloud(index: int, category: str, *, seed: int = 0, points: int = 1024, normals: bool = False) -> dict:
    """Draw one cloud.

    Args:
      index: which, 0 or more.
      category: of `CATEGORIES`.
      seed: which world, 0 or more.
      points: the most; three quarters of them or more are drawn.
      normals: whether points have six channels, the last three the surface's normal.

    Returns:
      points: float32 [n, 3 or 6], the shape's mean in the origin, its furthest point at distance 1.
      part: int32 [n], the class of `dataset_info`.
      category: int, in the order of `CATEGORIES`.
    """
    rng = stream(seed, index, purpose=_PURPOSE)
    places = list(CATEGORIES).index(category)
    parts = CATEGORIES[category][1](rng)
    first = sum(len(names) for names, _ in list(CATEGORIES.values())[:places])
    owned = [(first + k, surface) for k, part in enumerate(parts) for surface in part]
    areas = np.asarray([surface.area for _, surface in owned])
    count = int(rng.integers(3 * points // 4, points + 1))
    # Small parts get more than their area's share, as scanned and modelled shapes have it.
    shares = np.sqrt(areas) / np.sqrt(areas).sum()
    drawn = [surface.draw(rng, n) for n, (_, surface) in zip(rng.multinomial(count, shares), owned)]
    part = np.repeat([k for k, _ in owned], [len(one.places) for one in drawn])
    where, facing = (np.concatenate(arrays) for arrays in zip(*drawn))
    where -= where.mean(axis=0)
    where /= np.linalg.norm(where, axis=1).max()
    found = np.concatenate([where, facing], axis=1) if normals else where
    order = rng.permutation(count)
    return {POINTS: found[order].astype(np.float32), PART: part[order].astype(np.int32), CATEGORY: places}


def dataset_info(points: int = 1024, normals: bool = False) -> DatasetInfo:
    """Parts and categories; `points` and `normals` as in `draw_cloud`."""
    classes = [f"{category} {part}" for category, (parts, _) in CATEGORIES.items() for part in parts]
    ends = np.cumsum([len(parts) for parts, _ in CATEGORIES.values()]).tolist()
    owned = [tuple(range(end - len(parts), end)) for end, (parts, _) in zip(ends, CATEGORIES.values())]
    channels = 6 if normals else 3
    return DatasetInfo(
        name="clouds",
        classes=tuple(classes),
        palette=distinct(len(classes)),
        channels=channels,
        image_dtype="float32",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        max_points=points,
        categories=tuple(zip(CATEGORIES, owned)),
    )


@dataclasses.dataclass(frozen=True)
class CloudSource:
    """A split of clouds: `source[i] -> {"points", "part", "category", "name"}`; picklable, it holds numbers only.

    Attributes:
      split: `train`, `val` or `test`; no cloud is in two of them, whatever the counts.
      count: number of clouds, None for the default.
      seed, points, normals: as in `draw_cloud`.
      categories: those drawn, in turn; None for all.
    """

    split: str
    _: dataclasses.KW_ONLY
    count: int | None = None
    seed: int = 0
    points: int = 1024
    normals: bool = False
    categories: tuple[str, ...] | None = None

    largest = None

    def __post_init__(self):
        if self.split not in SPLITS:
            raise DataError(f"clouds have no split {self.split!r}.{suggest(self.split, SPLITS)}")
        for name in self._categories:
            if name not in CATEGORIES:
                raise DataError(f"clouds have no category {name!r}.{suggest(str(name), CATEGORIES)}")
        if self.count is not None and not 0 < self.count <= 1 << 40:
            raise DataError(f"clouds need a count of 1 or more, got {self.count}")
        if self.points < _FEWEST:
            raise DataError(f"clouds need {_FEWEST} points or more, got {self.points}")

    def __len__(self) -> int:
        return SPLITS[self.split][1] if self.count is None else self.count

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not 0 <= i < len(self):
            raise IndexError(f"cloud {i} of {len(self)} in split {self.split!r}")
        index, names = SPLITS[self.split][0] + int(i), self._categories
        category = names[index % len(names)]
        cloud = draw_cloud(index, category, seed=self.seed, points=self.points, normals=self.normals)
        return {**cloud, NAME: f"{self.split}_{i:06d}_{category}"}

    @property
    def _categories(self) -> tuple[str, ...]:
        return tuple(CATEGORIES) if not self.categories else tuple(self.categories)
