"""How panoptic segments are written, drawn and reported.

Shapes: H height, W width, P segments.
"""

from __future__ import annotations

import colorsys
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from segjax.core.files import write_text
from segjax.core.schema import INSTANCE, INSTANCE_CLASS, LABEL, DatasetInfo
from segjax.inference import draw
from segjax.report.tables import class_table
from segjax.tasks.view import Picture, Table

_PER_CLASS = {"per_class_pq": "PQ", "per_class_sq": "SQ", "per_class_rq": "RQ", "per_class_iou": "IoU"}
_GOLDEN = 0.618034  # successive multiples of it spread evenly over [0, 1)
_OUTLINE = (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The segments of one image.

    Attributes:
      segment: int32 [H, W], p where segment p - 1 is, 0 in void.
      classes: int [P], the class of each.
      scores: float32 [P], or None for the truth.
      info: names, colours, and which classes are things.
    """

    segment: np.ndarray
    classes: np.ndarray
    info: DatasetInfo
    scores: np.ndarray | None = None

    def overlay(self, image: np.ndarray, alpha: float = 0.5) -> np.ndarray:
        """uint8 [H, W, 3]: the segments' colours over `image` [H, W, C], instances outlined in white."""
        seen, colours = self._colours()
        place = np.searchsorted(seen, self.segment)
        labels = np.where(self.segment > 0, place, len(seen))
        picture = draw.overlay(image, labels, colours, alpha)
        if alpha > 0:
            thing = np.isin(self._class_map(), self.info.things)
            edge = draw.outline(np.where(thing, self.segment, 0))
            picture[edge] = np.rint(0.3 * picture[edge] + 0.7 * np.array(_OUTLINE)).astype(np.uint8)
        return picture

    def colour(self) -> np.ndarray:
        """uint8 [H, W, 3]: each segment in its colour, instances of a class in different ones, void light."""
        seen, colours = self._colours()
        labels = np.where(self.segment > 0, np.searchsorted(seen, self.segment), len(seen))
        return draw.colour_labels(labels, colours)

    def without(self, void: np.ndarray | None) -> Prediction:
        """The same with no segment under `void`, bool [H, W]; None: nowhere."""
        if void is None or not void.any():
            return self
        return dataclasses.replace(self, segment=np.where(void, 0, self.segment))

    def save(self, path: str | Path) -> Path:
        """Writes COCO's panoptic format: a PNG of segment ids, R + 256 G + 65536 B, and beside it a JSON of the same
        name.

        The JSON has `file_name`, `segments_info` (`id`, `category_id`, the place in `categories`, `isthing`, `bbox` as
        x, y, width, height, `area`, `iscrowd`, `score` of a prediction) and `categories`. An id is the segment's colour
        in pictures, so that the PNG can be looked at; 0 is void.

        Raises:
          StorageError: a file cannot be written.
        """
        path = Path(path)
        seen, colours = self._colours()
        table = np.zeros((len(seen) + 1, 3), np.uint8)
        table[:-1] = np.reshape(colours, (-1, 3))
        picture = table[np.where(self.segment > 0, np.searchsorted(seen, self.segment), len(seen))]
        record = {
            "file_name": path.name,
            "segments_info": [self._record(p, colour) for p, colour in zip(seen, colours)],
            "categories": [
                {"id": k, "name": name, "isthing": int(k in self.info.things), "color": list(self.info.palette[k])}
                for k, name in enumerate(self.info.classes)
            ],
        }
        write_text(path.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
        return draw.save_picture(path, picture)

    def _record(self, p: int, colour: Sequence[int]) -> dict[str, Any]:
        rows, columns = np.nonzero(self.segment == p)
        left, top = int(columns.min()), int(rows.min())
        kind = int(self.classes[p - 1])
        record = {
            "id": int(np.dot(colour, (1, 256, 65536))),
            "category_id": kind,
            "isthing": int(kind in self.info.things),
            "bbox": [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1],
            "area": len(rows),
            "iscrowd": 0,
        }
        return record if self.scores is None else {**record, "score": round(float(self.scores[p - 1]), 6)}

    def _class_map(self) -> np.ndarray:
        """int [H, W]: the class of each pixel's segment, -1 in void."""
        return np.append(np.asarray(self.classes, int), -1)[self.segment - 1]

    def _colours(self) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
        """The segments that have pixels, in order, and a colour for each; no two are equal, none is black."""
        seen = np.unique(self.segment[self.segment > 0])
        colours, taken, counts = [], {(0, 0, 0)}, {}
        for p in seen:
            kind = int(self.classes[p - 1])
            number = counts[kind] = counts.get(kind, -1) + 1
            colour = self.info.palette[kind]
            if kind in self.info.things:
                colour = _varied(colour, number)
            while tuple(colour) in taken:
                value = (int(np.dot(colour, (1, 256, 65536))) + 1) % 2**24
                colour = (value % 256, value // 256 % 256, value // 65536)
            taken.add(tuple(colour))
            colours.append(tuple(int(part) for part in colour))
        return seen, colours


def _varied(colour: Sequence[int], number: int) -> tuple[int, int, int]:
    """The class's colour itself for instance 0, then others of nearly its hue, lighter and darker."""
    if number == 0:
        return tuple(colour)
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    turn, shade = number * _GOLDEN % 1 - 0.5, number * _GOLDEN**2 % 1 - 0.5
    lightness = min(max(lightness + 0.4 * shade, 0.25), 0.8)
    varied = colorsys.hls_to_rgb((hue + 0.1 * turn) % 1, lightness, max(saturation, 0.35))
    return tuple(round(255 * part) for part in varied)


class PanopticView:
    """See `tasks.view.View`."""

    overall: ClassVar[dict[str, str]] = {
        "pq": "PQ",
        "sq": "SQ",
        "rq": "RQ",
        "pq_things": "PQ of things",
        "pq_stuff": "PQ of stuff",
        "miou": "mIoU",
    }

    def prediction(self, found: Mapping[str, np.ndarray], size: tuple[int, int], info: DatasetInfo) -> Prediction:
        """The segments that are valid."""
        height, width = size
        return Prediction(
            np.asarray(found["segment"])[:height, :width],
            np.asarray(found["segment_class"]),
            info,
            np.asarray(found["segment_score"]),
        )

    def truth(self, sample: Mapping[str, Any], info: DatasetInfo) -> Prediction:
        """A segment for each instance, crowds among them, and one for each class of stuff."""
        layer, label = sample[INSTANCE][..., 0].astype(np.int32), sample[LABEL].astype(np.int32)
        classes = np.asarray(sample[INSTANCE_CLASS], np.int32)
        stuff = np.setdiff1d(np.arange(info.num_classes), info.things)
        segment = np.where((layer == 0) & np.isin(label, stuff), len(classes) + 1 + label, layer)
        return Prediction(segment, np.concatenate([classes, np.arange(info.num_classes)]), info)

    def pictures(
        self, image: np.ndarray, truth: Prediction, prediction: Prediction, info: DatasetInfo
    ) -> list[Picture]:
        """Image, truth, prediction, and what is in no matched segment."""
        return [
            Picture("image", draw.display(image), photo=True),
            Picture("truth", truth.colour()),
            Picture("prediction", prediction.colour()),
            Picture("in red: in no matched segment", _errors(truth, prediction)),
        ]

    def table(self, scores: Mapping[str, Any]) -> Table:
        """PQ, SQ, RQ and IoU."""
        columns = {key: title for key, title in _PER_CLASS.items() if key in scores}
        count = len(scores["per_class_pq"])
        names = scores.get("classes") or [str(k) for k in range(count)]
        return Table(
            ["class", *columns.values()], [[names[k], *(scores[key][k] for key in columns)] for k in range(count)]
        )

    def sections(self, scores: Mapping[str, Any], info: DatasetInfo) -> Sequence[str]:
        """The classes' scores."""
        hint = "PQ = SQ x RQ: how well segments are outlined (mean IoU of those matched), and how well they are found"
        return [class_table(self.table({**scores, "classes": info.classes}), info.palette, hint)]

    def legend(self, info: DatasetInfo) -> list[tuple[str, tuple[int, int, int]]]:
        """The classes and void; instances vary their class's colour."""
        return [*zip(info.classes, info.palette), ("void", draw.VOID_COLOUR)]


VIEW = PanopticView()


def _errors(truth: Prediction, prediction: Prediction) -> np.ndarray:
    """uint8 [H, W, 3]: dark where a segment and its match (same class, IoU over a half) overlap, light where the truth
    is void, red elsewhere."""
    guess, true = prediction.segment, truth.segment
    both = np.zeros((true.max() + 1, guess.max() + 1), np.int64)
    np.add.at(both, (true, guess), 1)
    union = both.sum(1, keepdims=True) + both.sum(0) - both - both[0]
    same = np.append(-1, truth.classes)[: len(both), None] == np.append(-2, prediction.classes)[: both.shape[1]]
    matched = (same & (2 * both > union))[true, guess]
    return draw.error_map(np.where(matched, 0, 1), np.where(true == 0, draw.IGNORE, 0))
