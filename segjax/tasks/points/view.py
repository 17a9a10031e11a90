"""How labelled clouds are written, drawn and reported."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segjax.core.files import write_bytes
from segjax.core.schema import PART, DatasetInfo
from segjax.inference import draw
from segjax.report.tables import class_table
from segjax.tasks.points.picture import draw_cloud
from segjax.tasks.view import Picture, Table

LABEL = "label"


@dataclasses.dataclass(frozen=True)
class CloudPrediction:
    """What the network says of one cloud.

    Attributes:
      labels: int32 [P], the part of each point.
      info: names and colours of the parts.
    """

    labels: np.ndarray
    info: DatasetInfo

    def overlay(self, points: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        """uint8 [H, W, 3]: `points` [P, C] in the parts' colours, mixed with grey where `alpha` is below 1."""
        colours = draw.colour_labels(self.labels, self.info.palette).astype(np.float64)
        grey = np.asarray(draw.VOID_COLOUR)
        return draw_cloud(points, np.rint(alpha * colours + (1 - alpha) * grey).astype(np.uint8))

    def without(self, void: np.ndarray | None) -> CloudPrediction:
        """The same: clouds have no void."""
        return self

    def save(self, path: str | Path) -> Path:
        """Writes an npz with `label` int32 [P] and the parts' names, `classes`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, label=self.labels, classes=np.asarray(self.info.classes))
        return write_bytes(path, buffer.getvalue())


class PointsView:
    """See `tasks.view.View`; the subject is a cloud's points [P, C], whose number stands for an image's size."""

    overall: ClassVar[dict[str, str]] = {
        "instance_miou": "instance mIoU",
        "category_miou": "category mIoU",
    }

    def prediction(self, found: Mapping[str, np.ndarray], size: Sequence[int], info: DatasetInfo) -> CloudPrediction:
        """The parts of the cloud's own points."""
        return CloudPrediction(found[LABEL][: size[0]], info)

    def truth(self, sample: Mapping[str, Any], info: DatasetInfo) -> CloudPrediction:
        """The sample's parts."""
        return CloudPrediction(np.asarray(sample[PART]), info)

    def pictures(
        self, points: np.ndarray, truth: CloudPrediction, prediction: CloudPrediction, info: DatasetInfo
    ) -> list[Picture]:
        """Truth, prediction, errors: each from the front and from the side."""
        wrong = truth.labels != prediction.labels
        errors = np.where(wrong[:, None], np.uint8(draw.WRONG_COLOUR), np.uint8(draw.RIGHT_COLOUR))
        return [
            Picture("truth", truth.overlay(points)),
            Picture("prediction", prediction.overlay(points)),
            Picture("errors in red", draw_cloud(points, errors)),
        ]

    def table(self, scores: Mapping[str, Any]) -> Table:
        """A row a category that has shapes; all where none has."""
        values = scores["per_category_miou"]
        names = scores.get("categories") or [str(k) for k in range(len(values))]
        rows = [[name, value] for name, value in zip(names, values)]
        return Table(["category", "IoU"], [row for row in rows if np.isfinite(_number(row[1]))] or rows)

    def sections(self, scores: Mapping[str, Any], info: DatasetInfo) -> Sequence[str]:
        """The categories, each in the colour of its first part."""
        table = self.table(scores)
        first = {name: info.palette[parts[0]] for name, parts in info.categories}
        colours = [first.get(row[0], info.palette[0]) for row in table.rows]
        hint = "IoU: the mean over a category's shapes of the mean over its parts; a part absent in both counts as 1"
        return [class_table(table, colours, hint)]

    def legend(self, info: DatasetInfo) -> list[tuple[str, tuple[int, int, int]]]:
        """The parts."""
        return list(zip(info.classes, info.palette))


VIEW = PointsView()


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
