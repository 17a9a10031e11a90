"""How instances are written, drawn and reported.

Shape legend: H height, W width, n instances of an image.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segjax.core import rle
from segjax.core.files import write_bytes, write_text
from segjax.core.schema import INSTANCE, INSTANCE_BOX, INSTANCE_CLASS, INSTANCE_CROWD, DatasetInfo
from segjax.inference import draw
from segjax.report.charts import bar, line_chart
from segjax.report.tables import class_table
from segjax.tasks.instance.draw import (
    CROWD_COLOUR,
    FALSE_COLOUR,
    FOUND_COLOUR,
    MISSED_COLOUR,
    frame,
    match_pairs,
    paint,
    shades,
)
from segjax.tasks.view import Picture, Table

SHOWN = 0.5
"""The score from which on a prediction is drawn; files hold all."""

_SIZES = {"": "all", "_small": "small, to 32²", "_medium": "medium, to 96²", "_large": "large"}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The instances of one image, best first.

    Attributes:
      masks: bool [n, H, W].
      classes: int32 [n], classes of `info`.
      scores: float32 [n].
      boxes: float32 [n, 4], x0, y0, x1, y1 in pixels.
      info: names and colours of the classes.
      crowd: bool [n], of truth: many objects as one.
    """

    masks: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    info: DatasetInfo
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def ids(self) -> np.ndarray:
        """uint16 [H, W]: k + 1 where instance k is on top, that is the best of the pixel; 0 where there is none."""
        found = np.zeros(self.masks.shape[1:], np.uint16)
        for index in reversed(range(len(self))):
            found[self.masks[index]] = index + 1
        return found

    def above(self, score: float) -> Prediction:
        """The instances of at least that score."""
        return self._of(self.scores >= score)

    def without(self, void: np.ndarray | None) -> Prediction:
        """The same with masks that end at `void`, bool [H, W]; None: nowhere."""
        if void is None or not void.any():
            return self
        return dataclasses.replace(self, masks=self.masks & ~void)

    def overlay(self, image: np.ndarray, alpha: float = 0.5, *, boxes: bool = False) -> np.ndarray:
        """uint8 [H, W, 3]: instances of a score from `SHOWN` on over `image` [H, W, C], each in a shade of its class's
        colour; with `boxes`, their boxes, names and scores."""
        shown = self.above(SHOWN)
        colours = shades(shown.classes, self.info.palette)
        colours = [CROWD_COLOUR if crowd else colour for colour, crowd in zip(colours, shown.crowd)]
        picture = paint(image, shown.masks, colours, alpha)
        if not boxes:
            return picture
        texts = [f"{self.info.classes[k]} {score:.0%}" for k, score in zip(shown.classes, shown.scores)]
        return frame(picture, shown.boxes, colours, texts)

    def save(self, path: str | Path) -> Path:
        """Writes `ids` as a PNG of 16 bits, and beside it a JSON file of all instances as COCO's results have them.

        The k-th entry is that of id k. Masks are compressed run lengths, whole where others hide them. The box is
        `box`, x0, y0, x1, y1: under COCO's name `bbox`, pycocotools would take areas from it instead of the mask.
        `category_id` is the place in the data set's list of classes, `image_id` the file's name.

        Raises:
          StorageError: a file cannot be written.
        """
        path = Path(path)
        records = []
        for mask, number, score, box in zip(self.masks, self.classes, self.scores, self.boxes):
            counts = {"size": list(mask.shape), "counts": rle.compress(rle.encode(mask))}
            records.append(
                {
                    "image_id": path.stem,
                    "category_id": int(number),
                    "category": self.info.classes[number],
                    "score": round(float(score), 6),
                    "box": [round(float(edge), 2) for edge in box],
                    "segmentation": counts,
                }
            )
        write_text(path.with_suffix(".json"), json.dumps(records) + "\n")
        return write_bytes(path, draw.png_bytes(self.ids))

    def _of(self, kept: np.ndarray) -> Prediction:
        arrays = {key: getattr(self, key)[kept] for key in ("masks", "classes", "scores", "boxes", "crowd")}
        return dataclasses.replace(self, **arrays)


class InstanceView:
    """See `tasks.view.View`."""

    overall: ClassVar[dict[str, str]] = {
        "mask_ap": "mask AP",
        "mask_ap50": "mask AP50",
        "mask_ap75": "mask AP75",
        "mask_ap_small": "mask AP small",
        "mask_ap_medium": "mask AP medium",
        "mask_ap_large": "mask AP large",
        "mask_ar100": "mask AR",
        "box_ap": "box AP",
        "box_ap50": "box AP50",
    }

    def prediction(self, found: Mapping[str, np.ndarray], size: tuple[int, int], info: DatasetInfo) -> Prediction:
        """The valid detections; their classes, places in `info.things`, as classes of the data set."""
        kept, (height, width) = found["valid"], size
        return Prediction(
            masks=found["mask"][kept, :height, :width],
            classes=np.asarray(info.things, np.int32)[found["class"][kept]],
            scores=found["score"][kept],
            boxes=found["box"][kept],
            info=info,
            crowd=np.zeros(int(kept.sum()), bool),
        )

    def truth(self, sample: Mapping[str, Any], info: DatasetInfo) -> Prediction:
        """The sample's instances, their scores 1."""
        classes = np.asarray(sample[INSTANCE_CLASS], np.int32)
        slots = np.arange(1, len(classes) + 1)[:, None, None, None]
        return Prediction(
            masks=(sample[INSTANCE] == slots).any(axis=-1),
            classes=classes,
            scores=np.ones(len(classes), np.float32),
            boxes=np.asarray(sample[INSTANCE_BOX], np.float32),
            info=info,
            crowd=np.asarray(sample[INSTANCE_CROWD], bool),
        )

    def pictures(
        self, image: np.ndarray, truth: Prediction, prediction: Prediction, info: DatasetInfo
    ) -> list[Picture]:
        """Image, truth, prediction, and what was found, missed and made up at an IoU of 0.5."""
        shown, true = prediction.above(SHOWN), truth._of(~truth.crowd)
        pairs = match_pairs(shown.masks, shown.classes, true.masks, true.classes)
        found, hit = {index for index, _ in pairs}, {index for _, index in pairs}
        missed = [index for index in range(len(true)) if index not in hit]
        masks = np.concatenate([shown.masks, true.masks[missed]])
        colours = [FOUND_COLOUR if index in found else FALSE_COLOUR for index in range(len(shown))]
        return [
            Picture("image", draw.display(image), photo=True),
            Picture("truth", truth.overlay(image, 0.6), photo=True),
            Picture(f"prediction, score from {SHOWN:g}", prediction.overlay(image, 0.6, boxes=True), photo=True),
            Picture(
                "found, false, missed", paint(image, masks, colours + [MISSED_COLOUR] * len(missed), 0.6), photo=True
            ),
        ]

    def table(self, scores: Mapping[str, Any]) -> Table:
        """Average precision of each class of things."""
        columns = {f"per_class_{kind}_ap": f"{kind} AP" for kind in ("mask", "box")}
        columns = {key: title for key, title in columns.items() if key in scores}
        count = len(scores["per_class_mask_ap"])
        names = scores.get("classes") or [str(k) for k in range(count)]
        rows = [[names[k], *(scores[key][k] for key in columns)] for k in range(count)]
        return Table(["class", *columns.values()], rows)

    def sections(self, scores: Mapping[str, Any], info: DatasetInfo) -> Sequence[str]:
        """Classes, sizes, precision over recall."""
        names, palette = zip(*((info.classes[thing], info.palette[thing]) for thing in info.things))
        table = self.table({**scores, "classes": names})
        hint = "average precision over IoU 0.5 to 0.95, as COCO has it; a class without instances has none"
        return [class_table(table, palette, hint), _sizes(scores), _precision(scores)]

    def legend(self, info: DatasetInfo) -> list[tuple[str, tuple[int, int, int]]]:
        """The things, crowds, and what became of a prediction."""
        return [
            *((info.classes[thing], info.palette[thing]) for thing in info.things),
            ("crowd", CROWD_COLOUR),
            ("found", FOUND_COLOUR),
            ("false", FALSE_COLOUR),
            ("missed", MISSED_COLOUR),
        ]


VIEW = InstanceView()


def _sizes(scores: Mapping[str, Any]) -> str:
    """AP and AR by the area of an instance."""
    columns = [(kind, what) for kind in ("mask", "box") for what in ("ap", "ar") if f"{kind}_{what}_small" in scores]
    head = "".join(f"<th>{kind} {what.upper()}</th>" for kind, what in columns)
    body = []
    for suffix, name in _SIZES.items():
        values = [scores.get(f"{kind}_{what}{suffix or ('100' if what == 'ar' else '')}") for kind, what in columns]
        cells = "".join(bar(value, "" if value is None else f"{value:.3f}") for value in values)
        body.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    rows = f"<table><thead><tr><th>area</th>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return (
        '<section id="sizes"><h2>Sizes</h2><p class="hint">average precision and average recall with 100 detections, '
        f'by the area of an instance in pixels</p><div class="card scroll">{rows}</div></section>'
    )


def _precision(scores: Mapping[str, Any]) -> str:
    """Charts of precision over recall."""
    cards = []
    for key, title in (("mask_precision50", "IoU 0.5"), ("mask_precision75", "IoU 0.75")):
        values = [math.nan if value is None else value for value in scores.get(key, ())]
        points = [(index / 100, value) for index, value in enumerate(values)]
        chart = line_chart(points, label=f"precision over recall at {title}", form=lambda value: f"{value:.2g}")
        cards.append(f'<div class="card"><h3>{title}</h3>{chart}</div>')
    return (
        '<section id="precision"><h2>Precision</h2><p class="hint">over recall, the mean over classes, by masks</p>'
        f'<div class="charts">{"".join(cards)}</div></section>'
    )
