"""How label maps are written, drawn and reported."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE, LABEL, DatasetInfo
from segjax.inference import draw
from segjax.postprocess.semantic import entropy
from segjax.report.charts import heat_map
from segjax.report.tables import class_table
from segjax.tasks.view import Picture, Table

PROBABILITIES = "probabilities"

_PER_CLASS = {
    "per_class_iou": "IoU",
    "per_class_dice": "Dice",
    "per_class_accuracy": "accuracy",
    "per_class_boundary_f1": "boundary F1",
}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the network says of one image.

    Attributes:
      labels: uint8 (int32 beyond 255 classes) [H, W], a class for every pixel, IGNORE where `info.void_class` wins.
      info: names and colours of the classes.
      probabilities: float32 [H, W, K], or None when not asked for.
    """

    labels: np.ndarray
    info: DatasetInfo
    probabilities: np.ndarray | None = None

    @property
    def entropy(self) -> np.ndarray:
        """float32 [H, W], nats: 0 where the network is sure, log K where it has no idea."""
        if self.probabilities is None:
            raise ConfigError("entropy needs probabilities: call predictor(image, probabilities=True).")
        return np.asarray(entropy(self.probabilities))

    def overlay(self, image: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """uint8 [H, W, 3]: the classes' colours over `image` [H, W, C]."""
        return draw.overlay(image, self.labels, self.info.palette, alpha)

    def without(self, void: np.ndarray | None) -> Prediction:
        """The same with labels of IGNORE under `void`, bool [H, W]; None: nowhere."""
        if void is None or not void.any():
            return self
        return dataclasses.replace(self, labels=np.where(void, np.asarray(IGNORE, self.labels.dtype), self.labels))

    def save(self, path: str | Path) -> Path:
        """Writes the labels as a PNG whose palette shows the classes' colours."""
        return draw.save_labels(path, self.labels, self.info.palette)


class SemanticView:
    """See `tasks.view.View`."""

    overall: ClassVar[dict[str, str]] = {
        "miou": "mIoU",
        "mean_dice": "mean Dice",
        "mean_accuracy": "mean accuracy",
        "boundary_f1": "boundary F1",
        "pixel_accuracy": "pixel accuracy",
        "fwiou": "frequency-weighted IoU",
    }

    def prediction(self, found: Mapping[str, np.ndarray], size: tuple[int, int], info: DatasetInfo) -> Prediction:
        """Labels and, where there are any, `probabilities`."""
        height, width = size
        share = found.get(PROBABILITIES)
        return Prediction(found[LABEL][:height, :width], info, None if share is None else share[:height, :width])

    def truth(self, sample: Mapping[str, Any], info: DatasetInfo) -> Prediction:
        """The sample's labels."""
        return Prediction(sample[LABEL], info)

    def pictures(
        self, image: np.ndarray, truth: Prediction, prediction: Prediction, info: DatasetInfo
    ) -> list[Picture]:
        """Image, truth, prediction, errors."""
        return [
            Picture("image", draw.display(image), photo=True),
            Picture("truth", draw.colour_labels(truth.labels, info.palette)),
            Picture("prediction", draw.colour_labels(prediction.labels, info.palette)),
            Picture("errors in red", draw.error_map(prediction.labels, truth.labels)),
        ]

    def table(self, scores: Mapping[str, Any]) -> Table:
        """With a confusion matrix the last column is the share of the true pixels."""
        columns = {key: title for key, title in _PER_CLASS.items() if key in scores}
        count = len(scores["per_class_iou"])
        names = scores.get("classes") or [str(k) for k in range(count)]
        rows = [[names[k], *(scores[key][k] for key in columns)] for k in range(count)]
        if "confusion" not in scores:
            return Table(["class", *columns.values()], rows)
        rows = [[*row, share] for row, share in zip(rows, pixel_shares(scores["confusion"]))]
        return Table(["class", *columns.values(), "pixels"], rows, percent=("pixels",))

    def sections(self, scores: Mapping[str, Any], info: DatasetInfo) -> Sequence[str]:
        """Classes and confusion."""
        hint = "pixels: share of the labelled pixels that are truly of the class"
        table = self.table({**scores, "classes": info.classes})
        return [class_table(table, info.palette, hint), _confusion(scores["confusion"], info)]

    def legend(self, info: DatasetInfo) -> list[tuple[str, tuple[int, int, int]]]:
        """The classes and void."""
        return [*zip(info.classes, info.palette), ("void", draw.VOID_COLOUR)]


VIEW = SemanticView()


def pixel_shares(confusion: Sequence[Sequence[int]]) -> list[float]:
    """Each class's share of the true pixels that have a class; [K + 1][K + 1] matrix, row = truth, last = void."""
    rows = [sum(row) for row in confusion[:-1]]
    total = sum(rows)
    return [row / total if total else math.nan for row in rows]


def _confusion(matrix: Sequence[Sequence[int]], info: DatasetInfo) -> str:
    count = len(info.classes)
    void = any(row[count] for row in matrix[:count])
    columns = [*info.classes, "void"] if void else list(info.classes)
    shares = []
    for row in matrix[:count]:
        total = sum(row)
        shares.append([cell / total if total else None for cell in row[: len(columns)]])
    picture = heat_map(shares, info.classes, columns, "confusion matrix, shares of each true class")
    hint = escape("each row is a true class; its cells say, in percent, what its pixels were taken for")
    return (
        f'<section id="confusion"><h2>Confusion</h2><p class="hint">{hint}</p>'
        f'<div class="card scroll">{picture}</div></section>'
    )
