"""Panoptic quality: how well segments are found (RQ) and how well those that are found are outlined (SQ).

Kirillov, He, Girshick, Rother, Dollar. Panoptic Segmentation. CVPR 2019, arXiv:1801.00868, section 4. The rules for
void and crowds are those of cocodataset/panopticapi, panopticapi/evaluation.py.

Shape legend: B batch, H height, W width, L layers, N true instances, P predicted segments, K classes, S true segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import chex
import jax
import jax.numpy as jnp
import numpy as np

from segjax.metrics.base import Batch, State, add, counted_pixels
from segjax.metrics.confusion import mean_of_known
from segjax.metrics.ratio import PARTS, joined, split_ratio


@dataclasses.dataclass(frozen=True)
class PanopticQuality:
    """Panoptic quality; a `Metric`.

    Predictions: `segment` int32 [B, H, W], p where segment p - 1 is and 0 where none is; `segment_class` int32 [B, P],
    `segment_valid` bool [B, P]. A segment that is not valid, or not of 0..K-1, is no prediction. Batch: `instance`
    uint8 or uint16 [B, H, W, L], of which layer 0 holds all instances; `instance_class` int32, `instance_valid` and
    `instance_crowd` bool [B, N]; `label` int [B, H, W], `size` int32 [B, 2], `valid` bool [B].

    The true segments are the instances and, elsewhere, all pixels of each class that is not in `things`; the rest is
    void. The state is sums of int [K]: `tp`, `fp`, `fn`, and `iou` [K, 3], quotients as `ratio.split_ratio` divides
    them. Images have fewer than 2^29 pixels.

    Attributes:
      num_classes: K.
      things: the classes whose instances are told apart.
    """

    num_classes: int
    things: tuple[int, ...]

    def init(self) -> State:
        """Zeros."""
        counts: State = {key: np.zeros(self.num_classes, np.int64) for key in ("tp", "fp", "fn")}
        return counts | {"iou": np.zeros((self.num_classes, PARTS), np.int64)}

    def update(self, predictions: Mapping[str, jax.Array], batch: Batch) -> State:
        """Sums over one batch, int32; see `Metric.update`."""
        guess_class, guess_valid = predictions["segment_class"], predictions["segment_valid"]
        chex.assert_equal_shape([predictions["segment"], batch["label"]])
        true, true_class, crowd = self._truth(batch)
        guess_valid &= (guess_class >= 0) & (guess_class < self.num_classes)
        guess = _known(predictions["segment"], guess_valid)
        both = _joint_counts(true, guess, true_class.shape[1], guess_class.shape[1], counted_pixels(batch))

        true_area, guess_area = both.sum(axis=2)[:, 1:], both.sum(axis=1)[:, 1:]
        void, both = both[:, 0, 1:], both[:, 1:, 1:]
        union = true_area[:, :, None] + guess_area[:, None] - both - void[:, None]
        same = true_class[:, :, None] == guess_class[:, None]
        # Over one half, so a segment is in at most one match.
        matched = same & ~crowd[:, :, None] & (2 * both > union)
        found = matched.any(axis=2)
        missed = (true_area > 0) & ~crowd & ~found

        # Of several crowds of a class panopticapi keeps the last.
        in_crowd = same & (crowd & (true_area > 0))[:, :, None]
        place = jnp.arange(1, true_class.shape[1] + 1)[:, None]
        last = (in_crowd * place).max(axis=1)[:, None] == place
        excused = void + jnp.where(in_crowd & last, both, 0).sum(axis=1)
        wrong = (guess_area > 0) & ~matched.any(axis=1) & ~(2 * excused > guess_area)

        iou = split_ratio(*(jnp.where(matched, x, 0).sum(axis=2) for x in (both, union)))
        return {
            "tp": self._by_class(true_class, found),
            "fp": self._by_class(guess_class, wrong),
            "fn": self._by_class(true_class, missed),
            "iou": self._by_class(true_class, iou),
        }

    def merge(self, a: State, b: State) -> State:
        """The sum of two states."""
        return add(a, b)

    def result(self, state: State) -> dict[str, float | list]:
        """Scores; a class of which nothing is true or predicted is NaN and in no mean.

        PQ = sum of IoU / (TP + FP / 2 + FN / 2), SQ = sum of IoU / TP, 0 without TP, RQ = PQ / SQ.

        Returns:
          `pq`, `sq`, `rq`, means over all classes; the same with `_things` and `_stuff`; `per_class_pq`,
          `per_class_sq`, `per_class_rq`, K values each.
        """
        tp, fp, fn = (np.asarray(state[key], np.float64) for key in ("tp", "fp", "fn"))
        iou = joined(state["iou"])
        counted = tp + fp + fn > 0
        whole = np.where(counted, tp + 0.5 * fp + 0.5 * fn, np.nan)
        per_class = {"pq": iou / whole, "sq": np.where(counted, iou / np.maximum(tp, 1), np.nan), "rq": tp / whole}
        thing = np.isin(np.arange(self.num_classes), self.things)
        groups = {"": np.ones(self.num_classes, bool), "_things": thing, "_stuff": ~thing}
        means = {key + group: mean_of_known(per_class[key][of]) for group, of in groups.items() for key in per_class}
        return means | {f"per_class_{key}": values.tolist() for key, values in per_class.items()}

    def _truth(self, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """int32 [B, H, W], s where segment s - 1 is, 0 in void; class int32 and crowd bool [B, S]. S = N + K: the
        instances, then a segment for each class, which has pixels where the class is stuff."""
        instance_class, crowd = batch["instance_class"], batch["instance_crowd"]
        images, slots = instance_class.shape
        present = batch["instance_valid"] & (instance_class >= 0) & (instance_class < self.num_classes)
        label = batch["label"].astype(jnp.int32)
        stuff = np.isin(np.arange(self.num_classes), self.things, invert=True)
        known = (label >= 0) & (label < self.num_classes) & jnp.asarray(stuff)[jnp.clip(label, 0, self.num_classes - 1)]
        layer = batch["instance"][..., 0].astype(jnp.int32)
        true = jnp.where(layer > 0, _known(layer, present), jnp.where(known, slots + 1 + label, 0))
        classes = jnp.broadcast_to(jnp.arange(self.num_classes), (images, self.num_classes))
        return (
            true,
            jnp.concatenate([instance_class, classes], axis=1),
            jnp.concatenate([crowd, jnp.zeros(classes.shape, bool)], axis=1),
        )

    def _by_class(self, classes: jax.Array, values: jax.Array) -> jax.Array:
        """int32 [K, ...]: sums of values [B, S, ...] over images and segments of each class [B, S]."""
        sums = jnp.zeros((self.num_classes, *values.shape[2:]), jnp.int32)
        return sums.at[classes].add(values.astype(jnp.int32), mode="drop")


def _known(segment: jax.Array, valid: jax.Array) -> jax.Array:
    """A map [B, H, W] of s for segment s - 1, with 0 where valid [B, S] says that there is none."""
    table = jnp.pad(valid, ((0, 0), (1, 0)))
    index = jnp.clip(segment, 0, valid.shape[1])
    known = jax.vmap(lambda row, at: row[at])(table, index)
    return jnp.where(known & (segment == index), segment, 0)


def _joint_counts(true: jax.Array, guess: jax.Array, segments: int, guesses: int, inside: jax.Array) -> jax.Array:
    """int32 [B, segments + 1, guesses + 1]: pixels of each pair of numbers in the maps [B, H, W]."""
    counts = jnp.zeros((len(true), segments + 1, guesses + 1), jnp.int32)
    image = jnp.arange(len(true))[:, None, None]
    return counts.at[image, true, guess].add(inside.astype(jnp.int32))
