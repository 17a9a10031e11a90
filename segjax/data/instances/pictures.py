"""Pictures of ids: a number for each instance or segment of an image.

Shape legend: H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.core.rle import brief
from segjax.core.schema import IGNORE
from segjax.data.annotations.tally import Dropped
from segjax.data.decode import open_picture
from segjax.data.instances.coco import class_of, stated_area, stated_box, wrong_size
from segjax.data.instances.objects import Annotated, make_instances, renumbered
from segjax.data.labels import read_numbers
from segjax.data.problem import Problem

_UNKNOWN = -1  # of an id's class


class _Meaning(NamedTuple):
    """What an id stands for: a class or IGNORE, whether it is a crowd, and what is wrong with it."""

    ident: int = IGNORE
    crowd: bool = False
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class IdReader:
    """A picture of ids, 0 where nothing is; a `Reader`.

    With a `factor` an id is class value * factor + number, and one below the factor is a class value alone: of a class
    that has instances, it is a crowd, or of Cityscapes a group. Without one an id is any number, and its class is the
    only one, or that of most of its pixels in the label.

    Attributes:
      file: the picture: grey of any depth, or (r, g, b) for the id r + 256 g + 65536 b.
      things: the classes that have instances.
      values: class value -> class or IGNORE.
      factor: see above.
      labelled: whether the picture says the class of every pixel; then 0 is class value 0.
    """

    file: Path
    things: tuple[int, ...]
    values: Mapping[int, int]
    factor: int | None = None
    labelled: bool = False

    def read(self, size: tuple[int, int], label: np.ndarray | None = None) -> Annotated:
        """See `Reader.read`."""
        values = read_numbers(self.file)
        if values.shape != size:
            return Annotated(None, None, (wrong_size(self.file, "the picture of ids", values.shape, size),))
        ids, inverse, pixels = np.unique(values, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(size)
        if self.factor is None:
            found = self._by_label(ids, inverse, label)
        else:
            found = [self._by_number(ident) for ident in ids.tolist()]
        problems = tuple(
            Problem(one.fault, f"{self.file}: id {ident} on {count} pixels: {one.fault}")
            for ident, count, one in zip(ids.tolist(), pixels.tolist(), found)
            if one.fault
        )
        classes = np.array([one.ident for one in found])
        kept = np.isin(classes, self.things)
        drawn = np.where(classes < 0, IGNORE, classes).astype(np.uint8)[inverse] if self.labelled else None
        crowd = np.array([one.crowd for one in found])
        return Annotated(make_instances(renumbered(values, ids[kept]), classes[kept], crowd[kept]), drawn, problems)

    def _by_number(self, ident: int) -> _Meaning:
        if ident == 0 and not self.labelled:
            return _Meaning()
        value, number = divmod(ident, self.factor) if ident >= self.factor else (ident, 0)
        if value not in self.values:
            return _Meaning(_UNKNOWN, fault="unknown class value")
        return _Meaning(self.values[value], crowd=number == 0)

    def _by_label(self, ids: np.ndarray, inverse: np.ndarray, label: np.ndarray | None) -> list[_Meaning]:
        if label is None:
            return [_Meaning(self.things[0]) if ident else _Meaning() for ident in ids.tolist()]
        votes = np.bincount((inverse * (IGNORE + 1) + label).ravel(), minlength=len(ids) * (IGNORE + 1))
        votes = votes.reshape(len(ids), IGNORE + 1)[:, self.things]
        return [
            _Meaning()
            if ident == 0
            else _Meaning(self.things[int(row.argmax())])
            if row.any()
            else _Meaning(_UNKNOWN, fault="instance on no thing class of the label")
            for ident, row in zip(ids.tolist(), votes)
        ]


@dataclasses.dataclass(frozen=True)
class PanopticReader:
    """COCO's panoptic annotation of one image: a PNG of segment ids and the list of its segments; a `Reader`.

    Attributes:
      file: the PNG; (r, g, b) is the id r + 256 g + 65536 b, 0 void.
      source: the JSON file.
      image: how messages call the image.
      segments: `segments_info`.
      classes: category id -> class.
      things: the classes that have instances.
      size: (height, width) that the JSON says; None where it does not.
    """

    file: Path
    source: Path
    image: str
    segments: Sequence[Mapping[str, Any]]
    classes: Mapping[Any, int]
    things: tuple[int, ...]
    size: tuple[int, int] | None

    def read(self, size: tuple[int, int], label: np.ndarray | None = None) -> Annotated:
        """See `Reader.read`. Stuff of a crowd, and what no segment holds, is void."""
        if self.size is not None and self.size != size:
            return Annotated(None, None, (wrong_size(self.source, self.image, self.size, size),))
        rgb = open_picture(self.file, 3).pixels.astype(np.int64)
        values = rgb @ np.array([1, 256, 65536])
        if values.shape != size:
            return Annotated(None, None, (wrong_size(self.file, "the picture of ids", values.shape, size),))
        ids = np.unique(values)
        problems: list[Problem] = []
        known: dict[int, tuple[int, bool, float | None, Any]] = {}
        for segment in self.segments:
            ident = segment.get("id")
            try:
                if not isinstance(ident, int) or isinstance(ident, bool):
                    raise Dropped("segment without an id", f"id {brief(ident)}")
                if ident in known:
                    raise Dropped("segment id that repeats", f"id {ident}")
                if ident not in ids or ident == 0:
                    raise Dropped("segment without a pixel", f"id {ident} is nowhere in {self.file.name}")
                box, area = stated_box(segment), stated_area(segment)
                known[ident] = class_of(segment, self.classes), bool(segment.get("iscrowd")), area, box
            except Dropped as drop:
                problems.append(
                    Problem(
                        drop.kind, f"{self.source}: segment {brief(ident)} ({self.image}): {drop.kind}: {drop.example}"
                    )
                )
        listed = [segment.get("id") for segment in self.segments]
        for ident in ids.tolist():
            if ident and ident not in listed:
                kind = "segment that is not listed"
                problems.append(
                    Problem(kind, f"{self.file}: {kind}: id {ident} is not in the segments_info of {self.source.name}")
                )
        kept = [ident for ident, (ident_class, *_) in known.items() if ident_class in self.things]
        layers = renumbered(values, np.array(kept, np.int64))
        classes, crowd, areas, boxes = zip(*(known[ident] for ident in kept)) if kept else ((), (), (), ())
        instances = make_instances(
            layers,
            list(classes),
            list(crowd),
            {slot: area for slot, area in enumerate(areas) if area is not None},
            {slot: box for slot, box in enumerate(boxes) if box is not None},
        )
        of_id = {ident: one[0] for ident, one in known.items() if not one[1] or one[0] in self.things}
        table = np.array([of_id.get(ident, IGNORE) for ident in ids.tolist()], np.uint8)
        return Annotated(instances, table[np.searchsorted(ids, values)], tuple(problems))
