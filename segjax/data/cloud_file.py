"""One file of points: the one reader of clouds, for data sets and for prediction.

Shape legend: N points.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segjax.core.errors import DataError, first_line

CLOUD_SUFFIXES = (".npz", ".txt")
_POINTS, _NORMALS, _PARTS = ("pos", "points"), ("normal", "normals"), ("label", "part")  # keys of an npz


class Cloud(NamedTuple):
    """A file's content.

    Attributes:
      points: float32 [N, 3], or [N, 6] with normals.
      part: int32 [N], or None.
      category: its name or number, or None.
    """

    points: np.ndarray
    part: np.ndarray | None = None
    category: str | int | None = None


def read_cloud(path: str | Path) -> Cloud:
    """Reads an npz with `pos` or `points` [N, 3] and, optionally, `normal` [N, 3], `label` or `part` [N] and
    `category`; or lines of text, `x y z`, `x y z nx ny nz` or, as ShapeNet's part benchmark has them, these and a part.

    Raises:
      DataError: a file that is missing, damaged, or of other content.
    """
    path = Path(path)
    if path.suffix.lower() not in CLOUD_SUFFIXES:
        raise DataError(f"{path}: clouds are read from {' and '.join(CLOUD_SUFFIXES)}.")
    try:
        cloud = _read_npz(path) if path.suffix.lower() == ".npz" else _read_text(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a cloud that can be read ({first_line(error)}).") from error
    if not len(cloud.points):
        raise DataError(f"{path}: it holds no point.")
    if not np.isfinite(cloud.points).all():
        raise DataError(f"{path}: some coordinates are not finite.")
    return cloud


def with_channels(cloud: Cloud, channels: int, name: str | Path) -> np.ndarray:
    """Its points as float32 [N, channels], normals left out where there are more.

    Raises:
      DataError: it has fewer channels.
    """
    found = cloud.points.shape[1]
    if found < channels:
        raise DataError(f"{name}: points have {found} channels, the network expects {channels}: normals are missing.")
    return cloud.points[:, :channels]


def count_points(path: Path) -> int | None:
    """N of an npz, from its header alone; None of another file, or of one that `read_cloud` will refuse."""
    if path.suffix.lower() != ".npz":
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(f"{key}.npy" for key in _POINTS if f"{key}.npy" in archive.namelist())
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                return read(member)[0][0]
    except (OSError, ValueError, EOFError, StopIteration, IndexError, zipfile.BadZipFile):
        return None


def _read_npz(path: Path) -> Cloud:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}

    def first(keys: tuple[str, ...]) -> np.ndarray | None:
        return next((arrays[key] for key in keys if key in arrays), None)

    points, normals, part = first(_POINTS), first(_NORMALS), first(_PARTS)
    if points is None:
        raise DataError(f"{path}: no array {' or '.join(_POINTS)} among {', '.join(arrays) or 'none'}.")
    if points.ndim != 2 or points.shape[1] not in (3, 6):
        raise DataError(f"{path}: points of shape {list(points.shape)}; they must be [N, 3], or [N, 6] with normals.")
    if normals is not None and points.shape[1] == 3:
        if normals.shape != points.shape:
            raise DataError(f"{path}: {list(points.shape)} points with {list(normals.shape)} normals.")
        points = np.concatenate([points, normals], axis=1)
    if part is not None and (part.shape != points.shape[:1] or part.dtype.kind not in "iu"):
        raise DataError(f"{path}: parts {part.dtype} {list(part.shape)}; give a whole number for each point.")
    category = arrays.get("category")
    return Cloud(
        points.astype(np.float32),
        None if part is None else part.astype(np.int32),
        None if category is None else category.item(),
    )


def _read_text(path: Path) -> Cloud:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an empty file, which is told of as an error
        rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    columns = rows.shape[1]
    if rows.size and columns not in (3, 6, 7):
        raise DataError(f"{path}: lines of {columns} numbers; give 3, 6 with normals, or 7 with normals and a part.")
    if columns < 7:
        return Cloud(rows.astype(np.float32))
    return Cloud(rows[:, :6].astype(np.float32), np.rint(rows[:, 6]).astype(np.int32))
