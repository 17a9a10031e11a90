"""Looks at every file of a data set and goes on past the bad ones: class frequencies, and all that is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.data import builders
from segjax.data.counts import SplitCounts
from segjax.data.decode import class_ids, open_image, raw_label
from segjax.data.layout import Layout, Sample


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: its kind, and a line that names the file."""

    kind: str
    text: str


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check found: the set's layout, sums split by split, and problems in the order of the files."""

    layout: Layout
    counts: Mapping[str, SplitCounts]
    problems: tuple[Problem, ...]

    def lines(self) -> Iterator[str]:
        """The report as text."""
        yield f"{self.layout.name}: {self.layout.root}, {len(self.layout.classes)} classes"
        width = max(len(name) for name in self.layout.classes)
        for split, counts in self.counts.items():
            total = int(counts.pixels.sum())
            share = counts.void / max(1, total + counts.void)
            yield ""
            yield (
                f"{split}: {len(self.layout.splits[split])} images, up to {counts.largest[0]}x{counts.largest[1]}"
                f" (height x width), void {counts.void:,} pixels ({share:.2%})"
            )
            if counts.images:
                yield f"  mean {_numbers(counts.mean())}   std {_numbers(counts.std())}"
            yield f"  {'class':<{width}}  {'pixels':>15}  {'share':>8}  {'images':>7}"
            for name, pixels, images in zip(self.layout.classes, counts.pixels, counts.images_with):
                yield f"  {name:<{width}}  {pixels:>15,}  {pixels / max(1, total):>8.3%}  {images:>7,}"
        yield ""
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
    examiner.look_at_masks()
    return Report(layout, examiner.counts, tuple(examiner.problems))


class _Examiner:
    """Opens samples one by one; the first image that opens fixes channels and pixel type."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.problems: list[Problem] = []
        self.channels, self.dtype = layout.channels, None
        classes = len(layout.classes)
        self.counts = {split: SplitCounts.zeros(classes, layout.channels or 0) for split in layout.splits}

    def report(self, kind: str, text: str) -> None:
        self.problems.append(Problem(kind, text.replace(self.layout.way_out(), "").strip()))

    def examine(self, split: str, sample: Sample) -> None:
        image, label = self._image(split, sample), self._label(sample)
        if label is None:
            return
        self.counts[split].add_label(label)
        if image is not None and image.shape[:2] != label.shape:
            self.report(
                "size mismatch",
                f"{sample.label}: label {label.shape[0]}x{label.shape[1]}, image {image.shape[0]}x{image.shape[1]}"
                " (height x width)",
            )

    def look_at_masks(self) -> None:
        """Two classes of which the second never occurs, with void: the usual trace of masks stored as 0 and 255."""
        pixels = sum(counts.pixels for counts in self.counts.values())
        if len(pixels) == 2 and pixels[1] == 0 and any(counts.void for counts in self.counts.values()):
            absent = self.layout.classes[1]
            self.report(
                "suspicious masks", f"class {absent!r} never occurs, void does; if 255 means it, set values={{255: 1}}"
            )

    def _image(self, split: str, sample: Sample) -> np.ndarray | None:
        try:
            image = open_image(sample.image, self.channels)
        except DataError as error:
            self.report("unreadable or unfit image", str(error))
            return None
        if self.dtype is None:
            self.channels, self.dtype = image.shape[-1], image.dtype
            for counts in self.counts.values():
                counts.total, counts.squares = np.zeros(self.channels), np.zeros(self.channels)
        if image.dtype != self.dtype:
            self.report("unfit image", f"{sample.image}: {image.dtype} pixels, the first image has {self.dtype}")
        else:
            self.counts[split].add_image(image)
        return image

    def _label(self, sample: Sample) -> np.ndarray | None:
        if sample.label is None:
            self.report("image without a label", f"{sample.image}")
            return None
        try:
            ids, unknown = class_ids(raw_label(sample.label, self.layout), self.layout)
        except DataError as error:
            self.report("unreadable label", str(error))
            return None
        for value, count in unknown.items():
            self.report("unknown label value", f"{sample.label}: value {value} on {count} pixels")
        return ids


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.5g}" for value in values)
