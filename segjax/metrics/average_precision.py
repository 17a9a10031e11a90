"""COCO's average precision and recall of instances, by masks or by boxes.

Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014; the figures are those of pycocotools 2.0.11
(`COCOeval`), which the tests compare to 1e-9.

Shape legend: B batch, D detections, N true instances, K classes, T thresholds, A area ranges, n rows of a state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError, suggest
from segjax.core.schema import SAMPLE
from segjax.metrics.base import Batch, State
from segjax.metrics.confusion import mean_of_known
from segjax.metrics.instance_matching import TWENTIETHS, Overlap, box_area, box_overlap, mask_overlap, match

KINDS = ("mask", "box")
AREAS = ("", "_small", "_medium", "_large")
AREA_RANGES = np.array([(0, 1e10), (0, 1024), (1024, 9216), (9216, 1e10)], np.float32)  # pixels; both ends belong
LIMITS = (1, 10, 100)  # detections of an image and class that recall is measured with
RECALLS = np.linspace(0.0, 1.0, 101)
CURVES = (50, 75)  # per cent of IoU at which precision over recall is reported

_ROWS = {"score": np.float32, "class": np.int16, "rank": np.uint8, "outcome": np.uint8, "place": np.int32}


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """Average precision of instances; a `Metric`.

    Predictions: `class` int32 [B, D] of 0..K-1, `score` float32 [B, D], `valid` bool [B, D]; `mask` bool [B, D, H, W]
    and, for boxes, `box` float32 [B, D, 4] as x0, y0, x1, y1. Batch: `instance_class` int32 [B, N], `instance_valid`
    and `instance_crowd` bool [B, N], `instance_area` float32 [B, N], `valid` bool [B], `sample` int32 [B], and
    `instance` with `size`, or `instance_box`.

    Equal scores go by `sample`, so it has to grow with the image's id to be pycocotools' order; within an image by
    place in the arrays, as equal IoUs do. The 100 best detections of an image and class count.

    The state has a row a detection that counts, 22 bytes: `score`, `class`, `rank` (within the image and class) and
    `place`, and `outcome` uint8 [n, T]: bit a says that it has a true instance in area range a, bit 4 + a that it does
    not count there. `valid` is false for rows that are padding. `truths` int [K, A] is a sum: instances that count.

    Attributes:
      num_classes: K, at most 32,767.
      kind: `mask` or `box`.
      areas: whether a detection's own area is that of its `mask` or its `box`. By default that of the kind. Box areas
        with masks are what pycocotools takes for results that have a `bbox` beside the segmentation.

    Raises:
      ConfigError: an unknown kind or kind of area.
    """

    num_classes: int
    kind: str = "mask"
    areas: str | None = None

    def __post_init__(self):
        for name, value in (("kind", self.kind), ("areas", self.areas or self.kind)):
            if value not in KINDS:
                raise ConfigError(f"average precision: unknown {name} {value!r}.{suggest(value, KINDS)}")
        if self.kind == "box" and self.areas == "mask":
            raise ConfigError("average precision: boxes have no mask area; leave `areas` away.")

    def init(self) -> State:
        """No rows, and `truths` zero."""
        state: State = {key: np.zeros((0,), dtype) for key, dtype in _ROWS.items()}
        state["outcome"] = np.zeros((0, len(TWENTIETHS)), np.uint8)
        return state | {
            "valid": np.zeros((0,), bool),
            "truths": np.zeros((self.num_classes, len(AREAS)), np.int64),
        }

    def update(self, predictions: Mapping[str, jax.Array], batch: Batch) -> State:
        """B D rows, those of an image sorted by falling score, and `truths` int32; see `Metric.update`."""
        classes = predictions["class"]
        true_class, crowd, true_area = (batch[f"instance_{key}"] for key in ("class", "crowd", "area"))
        images, detections = classes.shape
        chex.assert_shape([true_class, crowd, true_area, batch["instance_valid"]], (images, None))
        known = (classes >= 0) & (classes < self.num_classes) & batch["valid"][:, None]
        present = (true_class >= 0) & (true_class < self.num_classes) & batch["instance_valid"]
        present &= batch["valid"][:, None]

        order = jnp.argsort(-predictions["score"], axis=1, stable=True)
        valid, classes, score = (
            jnp.take_along_axis(x, order, axis=1) for x in (predictions["valid"] & known, classes, predictions["score"])
        )
        same = (classes[:, :, None] == classes[:, None]) & valid[:, None] & jnp.tri(detections, k=-1, dtype=bool)
        rank = same.sum(axis=-1)
        valid &= rank < LIMITS[-1]

        overlap = self._overlap(predictions, batch, crowd)
        overlap = Overlap(*(jnp.take_along_axis(x, _like(order, x), axis=1) for x in overlap))
        compatible = (classes[:, :, None] == true_class[:, None]) & valid[:, :, None] & present[:, None]
        ignored = crowd[:, None] | _outside(true_area)
        taken, excused = match(overlap, compatible, crowd, ignored)
        excused |= ~taken & jnp.moveaxis(_outside(overlap.area), 1, 2)[:, :, None]
        bits = jnp.concatenate([taken, excused], axis=-1) << np.arange(2 * len(AREAS))
        place = jnp.broadcast_to(batch[SAMPLE][:, None], classes.shape)
        outcome = bits.sum(axis=-1)
        rows = {"score": score, "class": classes, "rank": rank, "outcome": outcome, "place": place}
        state = {key: x.reshape(-1, *x.shape[2:]).astype(_ROWS[key]) for key, x in rows.items()}

        counted = (present[:, None] & ~ignored).astype(jnp.int32)  # [B, A, N]
        truths = jnp.zeros((self.num_classes, len(AREAS)), jnp.int32)
        truths = truths.at[jnp.where(present, true_class, 0)].add(jnp.moveaxis(counted, 1, 2))
        return state | {"valid": valid.reshape(-1), "truths": truths}

    def merge(self, a: State, b: State) -> State:
        """The rows of both that are valid, one after the other, and the sum of `truths`."""
        kept = [np.asarray(state["valid"]) for state in (a, b)]
        rows = {
            key: np.concatenate([np.asarray(state[key])[keep] for state, keep in zip((a, b), kept)])
            for key in (*_ROWS, "valid")
        }
        truths = np.asarray(a["truths"], np.int64) + np.asarray(b["truths"], np.int64)
        return rows | {"truths": truths}

    def result(self, state: State) -> dict[str, float | list]:
        """Scores, with KIND for `mask` or `box`; a class without true instances is NaN and in no mean.

        Returns:
          `KIND_ap`, `KIND_ap50`, `KIND_ap75`, `KIND_ap_small`, `_medium`, `_large`; `KIND_ar1`, `KIND_ar10`,
          `KIND_ar100` (average recall with that many detections of an image and class), `KIND_ar_small`, `_medium`,
          `_large`; `per_class_KIND_ap`, K values; `KIND_precision50`, `KIND_precision75`: precision at the recalls 0,
          0.01 .. 1, the mean over classes.
        """
        state = self.merge(self.init(), state)
        truths = state["truths"]
        precision = np.full((self.num_classes, len(AREAS), len(TWENTIETHS), len(RECALLS)), np.nan)
        recall = np.full((self.num_classes, len(AREAS), len(TWENTIETHS), len(LIMITS)), np.nan)
        order = np.lexsort((state["rank"], state["place"], -state["score"], state["class"]))
        classes, rank, outcome = (state[key][order] for key in ("class", "rank", "outcome"))
        bounds = np.searchsorted(classes, np.arange(self.num_classes + 1))
        for k, area in np.argwhere(truths > 0):
            rows = slice(bounds[k], bounds[k + 1])
            taken, excused = (outcome[rows] >> bit & 1 == 1 for bit in (area, len(AREAS) + area))
            hits, misses = taken & ~excused, ~taken & ~excused
            within = rank[rows, None, None] < np.array(LIMITS)
            recall[k, area] = (hits[:, :, None] * within).sum(axis=0) / truths[k, area]
            precision[k, area] = _precision_at_recalls(hits, misses, truths[k, area])
        return self._summary(precision, recall)

    def _overlap(self, predictions: Mapping[str, jax.Array], batch: Batch, crowd: jax.Array) -> Overlap:
        if self.kind == "box":
            return box_overlap(predictions["box"], batch["instance_box"], crowd)
        overlap = mask_overlap(predictions["mask"], batch["instance"], batch["size"], crowd)
        return overlap._replace(area=box_area(predictions["box"])) if self.areas == "box" else overlap

    def _summary(self, precision: np.ndarray, recall: np.ndarray) -> dict[str, float | list]:
        """Scores of precision [K, A, T, recalls] and recall [K, A, T, limits]."""
        kind, mean = self.kind, mean_of_known
        result: dict[str, float | list] = {}
        for a, name in enumerate(AREAS):
            result[f"{kind}_ap{name}"] = mean(precision[:, a])
            result[f"{kind}_ar{name or LIMITS[-1]}"] = mean(recall[:, a, :, -1])
        for m, limit in enumerate(LIMITS[:-1]):
            result[f"{kind}_ar{limit}"] = mean(recall[:, 0, :, m])
        for percent in CURVES:
            at = precision[:, 0, TWENTIETHS.tolist().index(percent // 5)]
            result[f"{kind}_ap{percent}"] = mean(at)
            result[f"{kind}_precision{percent}"] = [mean(column) for column in at.T]
        result[f"per_class_{kind}_ap"] = [mean(of_class) for of_class in precision[:, 0]]
        return result


def _precision_at_recalls(hits: np.ndarray, misses: np.ndarray, truths: int) -> np.ndarray:
    """float64 [T, recalls] of hits and misses [n, T], best score first, as `COCOeval.accumulate` has it."""
    found, wrong = (np.cumsum(x, axis=0, dtype=np.float64) for x in (hits, misses))
    recall = found / truths
    precision = found / (wrong + found + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    at = np.zeros((hits.shape[1], len(RECALLS)))
    for t in range(hits.shape[1]):
        index = np.searchsorted(recall[:, t], RECALLS, side="left")
        reached = index < len(recall)
        at[t, reached] = envelope[index[reached], t]
    return at


def _outside(area: jax.Array) -> jax.Array:
    """bool [B, A, ...]: whether an area [B, ...] lies outside each range."""
    low, high = AREA_RANGES.T[:, :, None]
    area = area.astype(jnp.float32)[:, None]
    return (area < low) | (area > high)


def _like(order: jax.Array, x: jax.Array) -> jax.Array:
    return order.reshape(order.shape + (1,) * (x.ndim - order.ndim))
