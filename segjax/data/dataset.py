"""Data sets as random access to decoded samples: what the pipeline, evaluation and pictures read."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segjax.core.config import Data
from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import LABEL, DatasetInfo
from segjax.data.counts import SplitCounts
from segjax.data.layout import take_options
from segjax.data.prepare import prepare, read_record
from segjax.data.records import decode_record
from segjax.data.sampling import epoch_order

_SHARE = re.compile(r"(?P<name>[^\[]+)\[(?:(?P<start>\d+)%)?:(?:(?P<stop>\d+)%)?\]")
_COUNTED = 128  # samples that stand for a generated split when its classes are counted


class Source(Protocol):
    """Random access to one split; picklable.

    `source[i]` is {image: [H, W, C], name: str} with {label: uint8 [H, W]} where the set has labels, and where it has
    instances {instance: uint8 or uint16 [H, W, L], instance_class: int32 [n], instance_crowd: bool [n], instance_area:
    float32 [n], instance_box: float32 [n, 4]}; slot k is k + 1 in the id layers. `largest` is the greatest (height,
    width), each over all samples. Or {points: float32 [P, C], part: int32 [P], category: int, name: str}; `largest` is
    then None.
    """

    largest: tuple[int, int] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...


class RecordSource:
    """One split of a prepared directory, decoded when asked for."""

    def __init__(self, directory: Path, split: str, length: int, largest: tuple[int, int], info: DatasetInfo) -> None:
        self._directory, self._split, self._length, self._info = directory, split, length, info
        self.largest = largest
        self._lock = threading.Lock()
        self._records: Any = None

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        return decode_record(self._open()[index], self._info)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_records": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _open(self) -> Any:
        with self._lock:
            if self._records is None:
                from segjax.data.builders.base import Records

                self._records = Records(self._directory, self._split)
            return self._records


class JoinedSource:
    """Several sources, one after the other (`train+val`)."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        sizes = [part.largest for part in parts]
        self.largest = None if None in sizes else tuple(map(max, zip(*sizes)))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (int(self._ends[part - 1]) if part else 0)]


class SharedSource:
    """The samples of `source` from one percentage to another, in a random order that is always the same.

    In the order of their names they might be alike at either end.
    """

    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source, count = source, len(source)
        order = epoch_order(count, seed=0, epoch=0)
        self._indices = np.sort(order[round(count * start / 100) : round(count * stop / 100)])
        self.largest = source.largest

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._source[int(self._indices[index])]


class CachedSource:
    """Keeps every decoded sample of `source` in memory from its first use on (not carried into worker processes)."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._samples: list[dict[str, Any] | None] = [None] * len(source)
        self.largest = source.largest

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        # Two threads may decode the same sample at once; either result is right.
        sample = self._samples[index]
        if sample is None:
            sample = self._samples[index] = self._source[index]
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_samples": [None] * len(self._source)}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that is ready to be read.

    Attributes:
      info: what networks and predictions need to know of it.
      splits: split name -> Source.
    """

    info: DatasetInfo
    splits: Mapping[str, Source]
    counts: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict, repr=False)

    def split(self, name: str) -> Source:
        """The split `name`, a share of it such as `train[:80%]`, or several joined by `+`.

        Shares of a split are cut from one random order of its samples, so that `train[:80%]` and `train[80%:]` share
        none.

        Raises:
          ConfigError: for a split that the set does not have, or a share without a sample.
        """
        parts = [self._part(one) for one in name.split("+")]
        return parts[0] if len(parts) == 1 else JoinedSource(parts)

    def class_counts(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of each class, and pixels of all images in which it occurs: two int64 [K].

        Prepared sets know both exactly; a generated set, or a share of a split, is counted on up to 128 samples spread
        over it.
        """
        found = [self.counts[one] if one in self.counts else self._count(self._part(one)) for one in split.split("+")]
        return sum(pixels for pixels, _ in found), sum(area for _, area in found)

    def require_classes(self, split: str) -> None:
        """DataError where a prepared split, or a share of one, has fewer than two classes to learn."""
        pixels = self._labelled(split)
        occurring = [] if pixels is None else [name for name, count in zip(self.info.classes, pixels) if count]
        if pixels is not None and len(occurring) < 2:
            what = f"only class {occurring[0]!r} occurs" if occurring else self._without_labels
            raise DataError(
                f"split {split!r} of {self.info.name!r}: {what}, so there is nothing to learn; look at its labels with"
                " `segjax data check`, or set config.data.train_split."
            )

    def require_labels(self, split: str) -> None:
        """DataError where every label pixel of a prepared split, or a share of one, is void: nothing can be scored."""
        pixels = self._labelled(split)
        if pixels is not None and not pixels.any():
            raise DataError(
                f"split {split!r} of {self.info.name!r}: {self._without_labels}, so there is nothing to score; look at"
                " its labels with `segjax data check`, or choose another split."
            )

    def require_instances(self) -> None:
        """DataError where the set has no instances, with what to set."""
        if not self.info.things:
            how = "('instance',)" if self.info.name == "scenes" else "'instance', if it has pictures of ids"
            raise DataError(
                f"data set {self.info.name!r}: no instances are read of it; set config.data.options.annotations={how},"
                " or take a set that has instances (docs/data.md)."
            )

    @property
    def _without_labels(self) -> str:
        return "it has instances and no labels" if self.info.things else "every label pixel is void"

    def _labelled(self, split: str) -> np.ndarray | None:
        """int64 [K], pixels of each class, where all are known; None for scenes, right by construction, and for shares
        of which only some samples would be counted."""
        names = [_SHARE.sub(r"\g<name>", one) for one in split.split("+")]
        few = all(one in self.counts or len(self._part(one)) <= _COUNTED for one in split.split("+"))
        return self.class_counts(split)[0] if few and all(name in self.counts for name in names) else None

    def _part(self, text: str) -> Source:
        share = _SHARE.fullmatch(text)
        name = share["name"] if share else text
        if name not in self.splits:
            raise ConfigError(
                f"split {text!r}: the data set {self.info.name!r} has {', '.join(self.splits)}; set"
                " config.data.train_split or config.eval.split to one of them."
            )
        if not share:
            return self.splits[name]
        start, stop = int(share["start"] or 0), int(share["stop"] or 100)
        part = SharedSource(self.splits[name], start, stop) if start < stop <= 100 else ()
        if not len(part):
            raise ConfigError(f"split {text!r}: no sample of {len(self.splits[name])} is in that share.")
        return part

    def _count(self, source: Source) -> tuple[np.ndarray, np.ndarray]:
        counts = SplitCounts.zeros(self.info.num_classes, self.info.channels)
        for index in np.unique(np.linspace(0, len(source) - 1, min(_COUNTED, len(source))).astype(int)):
            sample = source[int(index)]
            if LABEL in sample:
                counts.add_label(sample[LABEL])
        return counts.pixels, counts.area_with


def open_dataset(data: Data) -> Dataset:
    """Opens the data set that `config.data` names, preparing it into the cache on first use.

    Raises:
      DataError: for a missing folder or a file that is not what the set promises.
      StorageError: when the cache cannot be written.
      ConfigError: for an option that the set does not have.
    """
    if data.name in UNPREPARED:
        dataset = UNPREPARED[data.name](data)
    else:
        dataset = _open_prepared(data)
    if data.cache_decoded:
        return dataclasses.replace(dataset, splits={k: CachedSource(v) for k, v in dataset.splits.items()})
    return dataset


def _open_prepared(data: Data) -> Dataset:
    directory = prepare(data.name, data.root, data.cache, data.options)
    record = read_record(directory)
    info, splits, counts = DatasetInfo.from_json(record["info"]), {}, {}
    for name, split in record["splits"].items():
        splits[name] = RecordSource(directory, name, split["images"], tuple(split["largest"]), info)
        counts[name] = (np.array(split["pixels"], np.int64), np.array(split["area_with"], np.int64))
    return Dataset(info, splits, counts)


def _open_scenes(data: Data) -> Dataset:
    from segjax.data.scenes import SceneSource, dataset_info

    known = {"count": None, "eval_count": None, "seed": 0, "height": 128, "width": 160}
    known |= {"style": "street", "zoom": 1.0, "time": "any"}
    known |= {"annotations": (LABEL,), "min_pixels": 8, "max_instances": 100, "frames": None}
    chosen = take_options("scenes", data.options, known)
    asked = chosen["annotations"]
    chosen["annotations"] = (asked,) if isinstance(asked, str) else tuple(asked)
    counts = {"train": chosen.pop("count"), "val": chosen["eval_count"], "test": chosen.pop("eval_count")}
    splits = {split: SceneSource(split, count=count, **chosen) for split, count in counts.items()}
    return Dataset(dataset_info(chosen["style"], chosen["annotations"], chosen["max_instances"]), splits)


def _open_clouds(data: Data) -> Dataset:
    from segjax.data.clouds import CloudSource, dataset_info

    known = {"count": None, "eval_count": None, "seed": 0, "points": 1024, "normals": False, "categories": None}
    chosen = take_options("clouds", data.options, known)
    counts = {"train": chosen.pop("count"), "val": chosen["eval_count"], "test": chosen.pop("eval_count")}
    splits = {split: CloudSource(split, count=count, **chosen) for split, count in counts.items()}
    return Dataset(dataset_info(chosen["points"], chosen["normals"]), splits)


def _open_shapenet_part(data: Data) -> Dataset:
    from segjax.data.shapenet_part import open_splits

    return Dataset(*open_splits(data.root, data.options))


UNPREPARED = {"scenes": _open_scenes, "clouds": _open_clouds, "shapenet_part": _open_shapenet_part}
"""Sets that are drawn, or read from the user's files as they are, rather than from a prepared copy."""
