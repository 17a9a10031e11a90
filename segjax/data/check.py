"""Looks at every file of a data set and goes on past the bad ones: frequencies of classes and all that is wrong."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, INSTANCE, LABEL
from segjax.data import builders
from segjax.data.consistency import LabelSurvey
from segjax.data.counts import SplitCounts
from segjax.data.decode import Picture, open_picture
from segjax.data.instances.counts import InstanceCounts
from segjax.data.instances.objects import Reader
from segjax.data.labels import Label, open_label
from segjax.data.layout import Layout, Sample, lacking
from segjax.data.problem import Problem


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check found: the set's layout, sums split by split, and problems in the order of the files.

    `notes` are no problems, but deserve a look.
    """

    layout: Layout
    counts: Mapping[str, SplitCounts]
    problems: tuple[Problem, ...]
    instances: Mapping[str, InstanceCounts] = dataclasses.field(default_factory=dict)
    notes: tuple[Problem, ...] = ()

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"{self.layout.name}: {self.layout.root}, {len(self.layout.classes)} classes"
        width = max(len(name) for name in self.layout.classes)
        for split, counts in self.counts.items():
            total = int(counts.pixels.sum())
            share = counts.void / max(1, total + counts.void)
            yield ""
            void = f", void {counts.void:,} pixels ({share:.2%})" if LABEL in self.layout.annotations else ""
            yield (
                f"{split}: {len(self.layout.splits[split])} images, up to {counts.largest[0]}x{counts.largest[1]}"
                f" (height x width){void}"
                + (f", nodata in labels {counts.nodata:,} pixels" if counts.nodata else "")
                + (f", nodata in images {counts.missing:,} pixels" if counts.missing else "")
            )
            if counts.images:
                yield f"  mean {_numbers(counts.mean())}   std {_numbers(counts.std())}"
            if LABEL in self.layout.annotations:
                yield f"  {'class':<{width}}  {'pixels':>15}  {'share':>8}  {'images':>7}"
                for name, pixels, images in zip(self.layout.classes, counts.pixels, counts.images_with):
                    yield f"  {name:<{width}}  {pixels:>15,}  {pixels / max(1, total):>8.3%}  {images:>7,}"
            if split in self.instances:
                yield from self.instances[split].lines(self.layout.classes, self.layout.things)
                if line := self.instances[split].over_limit(self.layout.max_instances):
                    yield f"  noted: {line}"
        yield ""
        notes = collections.Counter(note.kind for note in self.notes)
        for kind, count in notes.items():
            yield f"noted: {kind}: {count}, such as {next(note.text for note in self.notes if note.kind == kind)}"
        kinds = [problem.kind for problem in self.problems]
        for kind in dict.fromkeys(kinds):
            yield f"{kind}: {kinds.count(kind)}"
            yield from (f"  {problem.text}" for problem in self.problems if problem.kind == kind)
        yield "nothing wrong" if not self.problems else f"{len(self.problems)} problems"


def check(name: str, root: str | Path | None, options: Mapping[str, Any] | None = None) -> Report:
    """Opens every image and label of data set `name` under `root`.

    Raises:
      DataError: when the folder is not laid out as the set is, so that there is nothing to open.
    """
    layout = builders.layout(name, root, options)
    examiner = _Examiner(layout)
    for split, samples in layout.splits.items():
        for sample in samples:
            examiner.examine(split, sample)
    for path in layout.orphans:
        examiner.report("label without an image", f"{path}")
    for path, why in layout.unread:
        examiner.report("not read", f"{path}: {why}")
    examiner.problems += examiner.survey.problems(examiner.counts)
    return Report(
        layout, examiner.counts, tuple(examiner.problems), examiner.instances, (*layout.notes, *examiner.notes)
    )


class _Examiner:
    """Opens samples one by one; the first image that opens fixes channels and pixel type."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.problems: list[Problem] = list(layout.problems)
        self.notes: list[Problem] = []
        self.survey = LabelSurvey(layout)
        self.channels, self.dtype = layout.channels, None
        classes = len(layout.classes)
        self.counts = {split: SplitCounts.zeros(classes, layout.channels or 0) for split in layout.splits}
        instances = layout.splits if INSTANCE in layout.annotations else ()
        self.instances = {split: InstanceCounts.zeros(classes) for split in instances}

    def report(self, kind: str, text: str) -> None:
        line = " ".join(text.replace(self.layout.way_out(), "").splitlines())  # a file's name may hold a line break
        self.problems.append(Problem(kind, line.strip()))

    def examine(self, split: str, sample: Sample) -> None:
        picture, label = self._picture(split, sample), self._label(sample)
        counts, ids = self.counts[split], None if label is None else label.ids
        if picture is not None:
            counts.add_size(picture.pixels.shape[:2])
        if picture is not None and ids is not None and picture.pixels.shape[:2] != ids.shape:
            height, width = picture.pixels.shape[:2]
            self.report(
                "size mismatch",
                f"{sample.label}: label {ids.shape[0]}x{ids.shape[1]}, image {height}x{width} (height x width)",
            )
        elif picture is not None and sample.instances is not None:
            drawn = self._instances(split, sample.instances, picture.pixels.shape[:2], ids)
            ids = drawn if ids is None else ids
        if ids is None:
            return
        if picture is not None and picture.void is not None and picture.void.shape == ids.shape:
            ids = np.where(picture.void, IGNORE, ids).astype(np.uint8)
        counts.add_label(ids)
        counts.nodata += 0 if label is None else label.nodata

    def _instances(
        self, split: str, reader: Reader, size: tuple[int, int], label: np.ndarray | None
    ) -> np.ndarray | None:
        """Counts an image's instances; returns the label that the same files hold, if they do."""
        try:
            annotated = reader.read(size, label)
        except DataError as error:
            self.report("unreadable instances", str(error))
            return None
        self.problems += annotated.problems
        self.notes += annotated.notes
        if annotated.instances is not None:
            self.instances[split].add(annotated.instances, self.layout.max_instances)
        return annotated.label

    def _picture(self, split: str, sample: Sample) -> Picture | None:
        try:
            picture = open_picture(sample.image, self.channels, nodata=self.layout.nodata)
        except DataError as error:
            self.report("unreadable or unfit image", str(error))
            return None
        dtype, channels = picture.pixels.dtype, picture.pixels.shape[-1]
        if self.dtype is None:
            self.channels, self.dtype = channels, dtype
            zeros = SplitCounts.zeros(len(self.layout.classes), channels)
            for counts in self.counts.values():
                counts.total, counts.squares, counts.measured = (
                    array.copy() for array in (zeros.total, zeros.squares, zeros.measured)
                )
        if dtype != self.dtype:
            self.report("unfit image", f"{sample.image}: {dtype} pixels, the first image has {self.dtype}")
        else:
            self.counts[split].add_image(picture)
        return picture

    def _label(self, sample: Sample) -> Label | None:
        if (lack := lacking(self.layout, sample)) is not None:
            hint = f" ({self.layout.hint})" if self.layout.hint else ""
            kind = "image without a label" if lack == LABEL else "image without instances"
            self.report(kind, f"{sample.image}{hint}")
        if sample.label is None:
            return None
        try:
            label = open_label(sample.label, self.layout)
        except DataError as error:
            self.report("unreadable label", str(error))
            return None
        for value, count in label.unknown.items():
            self.report("unknown label value", f"{sample.label}: value {value} on {count} pixels")
        self.survey.add(sample.label, label)
        return label


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.5g}" for value in values)
