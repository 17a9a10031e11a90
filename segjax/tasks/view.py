"""How the predictions of a task are written, drawn, listed and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from segjax.core.schema import DatasetInfo


class Prediction(Protocol):
    """What a network predicts of one image or cloud, at its own size, on the host."""

    def save(self, path: str | Path) -> Path:
        """Writes it, as `segjax predict` does; returns the path."""
        ...

    def overlay(self, image: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """uint8 [H, W, 3]: drawn over `image` [H, W, C]; `alpha` is the share of the colours."""
        ...

    def without(self, void: np.ndarray | None) -> Any:
        """The same with nothing under `void`, bool [H, W]; None: nowhere."""
        ...


class Picture(NamedTuple):
    """One picture of a scored image.

    Attributes:
      title: below it.
      pixels: uint8 [H, W, 3].
      photo: whether it is kept as a JPEG, and shrunk smoothly; others have few colours.
    """

    title: str
    pixels: np.ndarray
    photo: bool = False


class Table(NamedTuple):
    """Scores by class.

    Attributes:
      columns: their names, that of the class's first.
      rows: [name, numbers...] for each class.
      percent: names of the columns whose numbers are shown as percents.
    """

    columns: list[str]
    rows: list[list[Any]]
    percent: tuple[str, ...] = ()


class View(Protocol):
    """A task's own part of predictions, tables and reports.

    Attributes:
      overall: {key of the scores: its name for people}, the headline first.
    """

    overall: Mapping[str, str]

    def prediction(self, found: Mapping[str, np.ndarray], size: tuple[int, ...], info: DatasetInfo) -> Prediction:
        """One image's predictions, of `Task.predict` without the batch axis, cut to its (height, width), or to a
        cloud's (points,)."""
        ...

    def truth(self, sample: Mapping[str, Any], info: DatasetInfo) -> Prediction:
        """The annotations of a sample as if they had been predicted."""
        ...

    def pictures(self, image: np.ndarray, truth: Any, prediction: Any, info: DatasetInfo) -> list[Picture]:
        """What is segmented (`Task.subject`), such as an image [H, W, C], its truth and its prediction side by side,
        for the report."""
        ...

    def table(self, scores: Mapping[str, Any]) -> Table:
        """The scores of each class."""
        ...

    def sections(self, scores: Mapping[str, Any], info: DatasetInfo) -> Sequence[str]:
        """The task's sections of the report, as HTML."""
        ...

    def legend(self, info: DatasetInfo) -> list[tuple[str, tuple[int, int, int]]]:
        """Names and colours that the pictures use."""
        ...
