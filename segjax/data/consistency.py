"""What only a whole set of labels shows: masks of two conventions, palettes in two orders, nothing to learn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from segjax.core.schema import IGNORE
from segjax.data.counts import SplitCounts
from segjax.data.labels import Label
from segjax.data.layout import Layout
from segjax.data.problem import Problem

_FEW = 3  # files that a message names
ONE_CLASS = "one class"
"""Kind of a set in which one class alone occurs: it can be scored, and nothing can be learnt from it."""
VOID_SPLIT = "void split"
"""Kind of a split in which every label pixel is void, while others have classes: it cannot be scored."""
MASKS = ("suspicious masks", "mixed masks", "palettes differ")
"""Kinds that are about what the files' values mean."""


class LabelSurvey:
    """Sees every label of a set and tells what does not fit together."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._with_255: list[Path] = []
        self._with_last: list[Path] = []
        self._with_both, self._files = 0, 0
        self._indices: dict[tuple[int, int, int], tuple[int, Path]] = {}
        self._moved: tuple[tuple[int, int, int], int, Path, int, Path] | None = None

    def add(self, path: Path, label: Label) -> None:
        """Takes one label file."""
        last = len(self._layout.classes) - 1
        self._files += 1
        self._with_both += {IGNORE, last} <= label.values
        if IGNORE in label.values and last not in label.values:
            if last == 1 or len(label.values) > 1:  # of many classes, a file of void alone is one nobody labelled
                self._with_255.append(path)
        elif last in label.values and IGNORE not in label.values:
            self._with_last.append(path)
        for colour, index in label.colours.items():
            known, first = self._indices.setdefault(colour, (index, path))
            if known != index and self._moved is None:
                self._moved = (colour, known, first, index, path)

    def problems(self, counts: Mapping[str, SplitCounts]) -> Iterator[Problem]:
        """What is wrong with the set as a whole, given what was counted on its splits."""
        layout = self._layout
        pixels = sum(split.pixels for split in counts.values())
        void = sum(split.void for split in counts.values())
        occurring = [name for name, count in zip(layout.classes, pixels) if count]
        last = len(layout.classes) - 1
        unset = IGNORE not in layout.stated and self._with_255
        if not sum(split.labels for split in counts.values()):
            return
        if not occurring:
            yield Problem("only void", f"{layout.root}: every label pixel is void ({void:,} pixels)")
        elif unset and last == 1 and len(occurring) == 1 and not pixels[1]:
            yield Problem(
                "suspicious masks",
                f"{layout.root}: class {layout.classes[1]!r} never occurs, void does; if 255 means it, set"
                " data.options.values={255: 1}",
            )
        elif len(occurring) == 1:
            yield Problem(
                ONE_CLASS,
                f"{layout.root}: {occurring[0]!r} is the only one of {len(layout.classes)} classes that occurs",
            )
        elif unset and self._apart():
            yield Problem(
                "mixed masks",
                f"{layout.root}: {len(self._with_255)} labels hold 255 and no {last} ({_names(self._with_255)}),"
                f" {len(self._with_last)} hold {last} and no 255 ({_names(self._with_last)}); if both mean"
                f" {layout.classes[last]!r}, set data.options.values={{255: {last}}}; if 255 is void, ignore=255",
            )
        for name, split in counts.items():
            if occurring and split.labels and not split.pixels.any():
                yield Problem(VOID_SPLIT, f"{layout.root}: every label pixel of split {name!r} is void")
        if self._moved is not None and layout.palettes == "auto":
            colour, before, first, index, path = self._moved
            yield Problem(
                "palettes differ",
                f"{path}: colour {colour} is index {index} there and {before} in {first}; write the colours into"
                ' classes.txt as `name r g b`, or set data.options.palettes="indices" if the indices are right',
            )

    def _apart(self) -> bool:
        """Whether some files hold 255 where others hold the last class.

        Of two classes any such files tell. Of more, void and the last class may be rare: none holds both, though two
        or more would if they had nothing to do with each other.
        """
        expected = len(self._with_255) * len(self._with_last) / max(1, self._files)
        return expected > 0 if len(self._layout.classes) == 2 else not self._with_both and expected >= 2


def _names(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:_FEW]) + (", ..." if len(paths) > _FEW else "")
