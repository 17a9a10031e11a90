"""Point clouds that a checkpoint can be asked about: read, checked, and labelled file by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segjax.core.errors import DataError, suggest
from segjax.core.schema import CATEGORY, NAME, POINTS, DatasetInfo
from segjax.data.cloud_file import read_cloud, with_channels
from segjax.inference import draw
from segjax.inference.engine import Engine


def load_cloud(path: str | Path, info: DatasetInfo) -> dict[str, Any]:
    """The file as a sample: `points` [P, C] and, where the file says it or there is but one, its `category`.

    Raises:
      DataError: a file that cannot be read, lacks channels, or is of an unknown category.
    """
    cloud = read_cloud(path)
    sample = {POINTS: with_channels(cloud, info.channels, path), NAME: str(path)}
    names = [name for name, _ in info.categories]
    if cloud.category is not None and names:
        known = cloud.category in (names if isinstance(cloud.category, str) else range(len(names)))
        if not known:
            raise DataError(f"{path}: category {cloud.category!r} is unknown.{suggest(str(cloud.category), names)}")
        sample[CATEGORY] = names.index(cloud.category) if isinstance(cloud.category, str) else cloud.category
    elif len(names) == 1:
        sample[CATEGORY] = 0
    return sample


def label_clouds(
    engine: Engine, paths: Sequence[Path], targets: Sequence[Path], *, overlay: bool = False, alpha: float = 1.0
) -> Iterator[tuple[Path, DataError | None]]:
    """Labels each cloud of `paths` into the npz of `targets` at the same place.

    Args:
      overlay: also write `overlays/NAME.png` beside the target.
      alpha: share of the parts' colours in it.

    Yields:
      Each path, in order, when its files are written (None), or with what is wrong with it.

    Raises:
      StorageError: a file cannot be written.
    """
    for start in range(0, len(paths), engine.batch_size):
        part = range(start, min(start + engine.batch_size, len(paths)))
        read = {}
        for i in part:
            try:
                read[i] = load_cloud(paths[i], engine.info)
            except DataError as error:
                yield paths[i], error
        found = engine.predict_samples(list(read.values())) if read else []
        for (i, sample), prediction in zip(read.items(), found):
            prediction.save(targets[i])
            if overlay:
                picture = prediction.overlay(sample[POINTS], alpha)
                draw.save_picture(targets[i].parent / "overlays" / f"{targets[i].stem}.png", picture)
            yield paths[i], None
