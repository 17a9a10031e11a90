"""Label files that `segjax predict`, or anything else, has written: found by the images' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.classes import first_difference
from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, LABEL, NAME, SIZE
from segjax.data.consistency import MASKS, LabelSurvey
from segjax.data.counts import SplitCounts
from segjax.data.labels import read_ids
from segjax.data.layout import LABEL_SUFFIXES, Layout, class_values
from segjax.data.palettes import Palette, distinct


def meaning(folder: str | Path, classes: Sequence[str], colours: Palette | None, of_set: Layout | None) -> Layout:
    """What the values of the label files in `folder` stand for.

    Ids are the places in `classes`. Beyond them a value means what the data set's options say of it, so that a set's
    own labels, scored as predictions, are right; 255 is void unless they say otherwise.

    Args:
      classes, colours: of the list that the files follow; None: they have none.
      of_set: the data set's layout, where it has one.
    """
    count = len(classes)
    values, options = class_values(count) if count <= IGNORE else {IGNORE: IGNORE}, {}
    if of_set is not None:
        same = first_difference(classes, of_set.classes) is None
        said = {value: of_set.values[value] for value in of_set.stated}
        said = {v: k for v, k in said.items() if k == v or (not 0 <= v < count and (same or k == IGNORE))}
        if colours is not None:  # which say what palettes mean
            said = {v: k for v, k in said.items() if k != v}
        values, options = {**values, **said}, {"stated": frozenset(said), "void_colours": of_set.void_colours}
        if same:
            options["palettes"] = of_set.palettes
        if same and colours is None and of_set.colours:
            colours = of_set.palette
    if colours is None and options.get("palettes") == "colours":
        options["palettes"] = "auto"
    return Layout(
        name="predictions",
        root=Path(folder),
        classes=tuple(classes),
        palette=colours or distinct(count),
        splits={},
        values=values,
        colours=colours is not None,
        **options,
    )


class Written:
    """The `predict` of `segjax.inference.evaluate.evaluate` that reads the label file FOLDER/NAME.* for each image."""

    def __init__(self, layout: Layout, suffix: str = "") -> None:
        """
        Args:
          layout: what the files mean; its root is their folder.
          suffix: what their stems may carry after the image's, as the data set's labels do.

        Raises:
          DataError: there is no such folder.
        """
        if not layout.root.is_dir():
            raise DataError(f"--predictions: no folder {str(layout.root)!r}; give the --output of `segjax predict`.")
        self._layout, self._suffix = layout, suffix
        self._survey, self._counts = LabelSurvey(layout), SplitCounts.zeros(len(layout.classes), 0)

    def __call__(self, placed: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """`label` int32 [B, H, W].

        Raises:
          DataError: as `segjax.data.labels.read_ids`, where an image has no such file or several, and where the file's
            size is not the image's.
        """
        found = np.full(batch[LABEL].shape, IGNORE, np.int32)
        for i, (name, (height, width)) in enumerate(zip(batch[NAME], batch[SIZE])):
            if not name:
                continue
            path = label_file(self._layout.root, name, self._suffix)
            label = read_ids(path, self._layout)
            if label.ids.shape != (height, width):
                raise DataError(
                    f"{path}: {label.ids.shape[0]}x{label.ids.shape[1]}, but the image {name} is {height}x{width}; "
                    "predict at the image's own size."
                )
            found[i, :height, :width] = label.ids
            if len(self._layout.classes) <= IGNORE:
                self._survey.add(path, label)
                self._counts.add_label(label.ids)
        return {LABEL: found}

    def check(self) -> None:
        """DataError for what only all the files show: masks of 0 and 255, palettes in two orders."""
        for problem in self._survey.problems({"predictions": self._counts}):
            if problem.kind in MASKS:
                raise DataError(f"{problem.text}.")


def label_file(folder: Path, name: str, suffix: str = "") -> Path:
    """FOLDER/NAME, or NAME and `suffix`, that ends as a label file does, in small or capital letters.

    Raises:
      DataError: there is none, or more than one.
    """
    ends = [end for small in LABEL_SUFFIXES for end in (small, small.upper())]
    paths = [folder / f"{stem}{end}" for stem in dict.fromkeys((name, name + suffix)) for end in ends]
    there = list({path.resolve(): path for path in paths if path.is_file()}.values())
    if not there:
        near = [path for path in sorted(folder.iterdir()) if path.stem in (name, name + suffix)]
        there = [path for path in near if path.suffix.lower() in LABEL_SUFFIXES]  # `.Png`
        lies = f"; {near[0].name} is there, which is not read as a label" if near else ""
    if not there:
        raise DataError(
            f"{folder / name}.png: no such file, nor one ending in {', '.join(LABEL_SUFFIXES[1:])}{lies}; `segjax "
            "predict` writes one an image, by its name."
        )
    if len(there) > 1:
        raise DataError(f"{there[0]}: {there[1].name} lies beside it; keep the one that counts.")
    return there[0]
