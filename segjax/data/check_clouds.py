"""Looks at every file of a set of clouds and goes on past the bad ones: points of each part, and all that is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import PART, POINTS, DatasetInfo
from segjax.data.consistency import Problem
from segjax.data.shapenet_part import open_splits


@dataclasses.dataclass(frozen=True)
class CloudReport:
    """What a check found.

    Attributes:
      info: of the set.
      sizes: split -> points of each cloud that could be read.
      points, clouds: split -> int64 [K], points of each part, and clouds that have it.
      problems: in the order of the files.
    """

    info: DatasetInfo
    sizes: Mapping[str, list[int]]
    points: Mapping[str, np.ndarray]
    clouds: Mapping[str, np.ndarray]
    problems: tuple[Problem, ...]

    def lines(self) -> Iterator[str]:
        """The report as text; parts that no cloud has are left out."""
        yield f"{self.info.name}: {len(self.info.classes)} parts of {len(self.info.categories)} categories"
        width = max(len(name) for name in self.info.classes)
        for split, sizes in self.sizes.items():
            yield ""
            yield f"{split}: {len(sizes)} clouds" + (f" of {min(sizes)} to {max(sizes)} points" if sizes else "")
            total = max(1, int(self.points[split].sum()))
            yield f"  {'part':<{width}}  {'points':>12}  {'share':>8}  {'clouds':>7}"
            for name, points, clouds in zip(self.info.classes, self.points[split], self.clouds[split]):
                if clouds:
                    yield f"  {name:<{width}}  {points:>12,}  {points / total:>8.3%}  {clouds:>7,}"
        yield ""
        yield from (f"{problem.kind}: {problem.text}" for problem in self.problems)
        yield "nothing wrong" if not self.problems else f"{len(self.problems)} problems"


def check_clouds(root: str | Path | None, options: Mapping[str, Any] | None = None) -> CloudReport:
    """Opens every file of `shapenet_part` under `root`.

    Raises:
      DataError: when the folder is not laid out as the set is, so that there is nothing to open.
    """
    info, splits = open_splits(root, options or {})
    sizes, points, clouds, problems = {}, {}, {}, []
    for split, source in splits.items():
        sizes[split] = []
        points[split], clouds[split] = (np.zeros(info.num_classes, np.int64) for _ in range(2))
        for index in range(len(source)):
            try:
                sample = source[index]
            except DataError as error:
                problems.append(Problem("unfit cloud", str(error)))
                continue
            found = np.bincount(sample[PART], minlength=info.num_classes)
            sizes[split].append(len(sample[POINTS]))
            points[split] += found
            clouds[split] += found > 0
    return CloudReport(info, sizes, points, clouds, tuple(problems))
