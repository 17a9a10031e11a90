"""ShapeNet part: 16 categories of shapes, 50 parts, read from the user's folder as it is.

Yi et al. A Scalable Active Framework for Region Annotation in 3D Shape Collections. SIGGRAPH Asia 2016.

Layouts: the benchmark's release with normals (shapenetcore_partanno_segmentation_benchmark_v0_normal), that is
`SYNSET/NAME.txt`, `synsetoffset2category.txt` and `train_test_split/shuffled_{train,val,test}_file_list.json`; or
files called `SPLIT_NAME.npz` or `SPLIT/NAME.npz`, text too, whose labels are the benchmark's 0 to 49 and say which
category a shape is of. `segjax.data.cloud_file` says what a file may hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.core.schema import CATEGORY, NAME, PART, POINTS, DatasetInfo
from segjax.data.cloud_file import CLOUD_SUFFIXES, count_points, read_cloud, with_channels
from segjax.data.layout import open_root, seen, take_options
from segjax.data.palettes import distinct

CATEGORIES = {
    "airplane": 4,
    "bag": 2,
    "cap": 2,
    "car": 4,
    "chair": 4,
    "earphone": 3,
    "guitar": 3,
    "knife": 2,
    "lamp": 4,
    "laptop": 2,
    "motorbike": 6,
    "mug": 2,
    "pistol": 3,
    "rocket": 3,
    "skateboard": 3,
    "table": 3,
}
"""Category -> number of its parts, which are numbered one category after the other."""

OPTIONS: dict[str, Any] = {
    "normals": False,  # points have six channels
    "categories": None,  # names of those that are read; default: all
    "max_points": None,  # of a cloud; default: as npz files have it, or the 3,000 that the benchmark's test allows
}
SPLITS = ("train", "val", "test")
_MOST = 3000  # charlesq34/pointnet, part_seg/test.py
_ENDS = np.cumsum(list(CATEGORIES.values())).tolist()
_PARTS = tuple(tuple(range(end - count, end)) for end, count in zip(_ENDS, CATEGORIES.values()))


class Shape(NamedTuple):
    """A file, and the number of its category where the layout says it."""

    path: Path
    category: int | None = None


class ShapeSource:
    """One split, read when asked for: `source[i] -> {"points", "part", "category", "name"}`; picklable."""

    largest = None

    def __init__(self, root: Path, shapes: tuple[Shape, ...], channels: int, max_points: int) -> None:
        self.root, self.shapes = root, shapes
        self._channels, self._max_points = channels, max_points

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"shape {index} of {len(self)}")
        path, category = self.shapes[index]
        cloud = read_cloud(path)
        if cloud.part is None:
            raise DataError(f"{path}: it has no labels, and the data set 'shapenet_part' is one of labelled points.")
        if len(cloud.points) > self._max_points:
            raise DataError(
                f"{path}: {len(cloud.points)} points, more than {self._max_points}; set "
                f"config.data.options.max_points to at least that."
            )
        if category is None:
            category = category_of(int(cloud.part[0]), path)
        wrong = cloud.part[~np.isin(cloud.part, _PARTS[category])]
        if wrong.size:
            name = list(CATEGORIES)[category]
            raise DataError(f"{path}: part {wrong[0]} is none of a {name}'s {_PARTS[category]}.")
        return {
            POINTS: with_channels(cloud, self._channels, path),
            PART: cloud.part,
            CATEGORY: category,
            NAME: path.relative_to(self.root).with_suffix("").as_posix(),
        }


def category_of(part: int, path: Path) -> int:
    """The category that has a part; DataError where none has."""
    found = [k for k, parts in enumerate(_PARTS) if part in parts]
    if not found:
        raise DataError(f"{path}: part {part} is none of 0..{_ENDS[-1] - 1}.")
    return found[0]


def open_splits(root: str | Path | None, options: Mapping[str, Any]) -> tuple[DatasetInfo, dict[str, ShapeSource]]:
    """Lists the folder and opens the npz files' headers; see the module's docstring for what is expected.

    Raises:
      DataError: no folder, or nothing in it that is the set's.
      ConfigError: an option that the set does not have, or an unknown category.
    """
    chosen = take_options("shapenet_part", options, OPTIONS)
    path = open_root("shapenet_part", root)
    wanted = _wanted(chosen["categories"])
    lists = path / "train_test_split"
    splits = _benchmark(path, lists, wanted) if lists.is_dir() else _plain(path, wanted)
    if not splits:
        raise DataError(
            f"data.root: {str(path)!r} holds no 'shapenet_part' data set; expected the benchmark's folders with "
            f"train_test_split, or files SPLIT_NAME.npz or SPLIT/NAME.npz of {', '.join(SPLITS)}; it holds "
            f"{seen(path)}."
        )
    channels = 6 if chosen["normals"] else 3
    most = chosen["max_points"] or _most(splits)
    info = DatasetInfo(
        name="shapenet_part",
        classes=tuple(f"{name} {k}" for name, parts in zip(CATEGORIES, _PARTS) for k in parts),
        palette=distinct(_ENDS[-1]),
        channels=channels,
        image_dtype="float32",
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        max_points=most,
        categories=tuple(zip(CATEGORIES, _PARTS)),
    )
    return info, {split: ShapeSource(path, shapes, channels, most) for split, shapes in splits.items()}


def _wanted(given: Any) -> set[int]:
    names = list(CATEGORIES)
    chosen = names if given is None else [given] if isinstance(given, str) else list(given)
    for name in chosen:
        if name not in CATEGORIES:
            raise ConfigError(f"config.data.options.categories: {name!r} is unknown.{suggest(str(name), names)}")
    return {names.index(name) for name in chosen}


def _benchmark(root: Path, lists: Path, wanted: set[int]) -> dict[str, tuple[Shape, ...]]:
    """The shapes that the lists name, `shape_data/SYNSET/NAME` each."""
    table = root / "synsetoffset2category.txt"
    names, synsets = list(CATEGORIES), {}
    try:
        for line in table.read_text(encoding="utf-8").splitlines():
            name, synset = line.split()
            synsets[synset] = names.index(name.lower())
    except (OSError, ValueError) as error:
        raise DataError(f"{table}: lines `Airplane 02691156` for the 16 categories are expected there.") from error
    splits = {}
    for split in SPLITS:
        listing = lists / f"shuffled_{split}_file_list.json"
        if not listing.is_file():
            continue
        try:
            pairs = [entry.split("/")[-2:] for entry in json.loads(listing.read_text(encoding="utf-8"))]
            shapes = [Shape(root / synset / f"{name}.txt", synsets[synset]) for synset, name in pairs]
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{listing}: a list of shape_data/SYNSET/NAME is expected there ({error!r}).") from error
        if kept := tuple(shape for shape in sorted(shapes) if shape.category in wanted):
            splits[split] = kept
    return splits


def _plain(root: Path, wanted: set[int]) -> dict[str, tuple[Shape, ...]]:
    """Files by split; where not all categories are wanted, each is opened to see which it is of."""
    splits = {}
    for split in SPLITS:
        paths = [*root.glob(f"{split}_*"), *(root / split).glob("*")]
        shapes = tuple(Shape(path) for path in sorted(paths) if path.suffix.lower() in CLOUD_SUFFIXES)
        if len(wanted) < len(CATEGORIES):
            shapes = tuple(shape for shape in shapes if _category(shape.path) in wanted)
        if shapes:
            splits[split] = shapes
    return splits


def _category(path: Path) -> int | None:
    part = read_cloud(path).part
    return None if part is None else category_of(int(part[0]), path)


def _most(splits: Mapping[str, tuple[Shape, ...]]) -> int:
    counts = [count_points(shape.path) for shapes in splits.values() for shape in shapes]
    return max(_MOST if count is None else count for count in counts)
