"""The confusion matrix, counted on the device, and the scores that follow from it, in float64 on the host.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError, suggest
from segjax.core.schema import LABEL
from segjax.metrics.base import Batch, State, add, counted_pixels

VOIDS = ("ignore", "union", "drop")


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """mIoU, accuracies and their like. Predictions are `label` int [B, H, W].

    Attributes:
      num_classes: K.
      void: convention of the scores, see `scores`.
      classes: K names, handed through to the result; empty: none.
    """

    num_classes: int
    void: str = "ignore"
    classes: tuple[str, ...] = ()

    def init(self) -> State:
        """`matrix`: int64 [K + 1, K + 1]."""
        return {"matrix": np.zeros((self.num_classes + 1,) * 2, np.int64)}

    def update(self, predictions: State, batch: Batch) -> State:
        """`matrix`: int32."""
        inside = counted_pixels(batch)
        return {"matrix": confusion(predictions[LABEL], batch[LABEL], inside, self.num_classes)}

    def merge(self, a: State, b: State) -> State:
        """Adds."""
        return add(a, b)

    def result(self, state: State) -> dict[str, float | list]:
        """Floats `miou`, `pixel_accuracy`, `mean_accuracy`, `fwiou`, `mean_dice`; lists of K floats `per_class_iou`,
        `per_class_accuracy`, `per_class_dice`; the matrix as nested lists `confusion` ([K + 1][K + 1], row = truth,
        last = void); `classes`, if they have names. NaN stands for what does not exist, such as the IoU of a class in
        neither truth nor prediction."""
        matrix = np.asarray(state["matrix"])
        found = {
            key: value if np.ndim(value) == 0 else value.tolist() for key, value in scores(matrix, self.void).items()
        }
        found["confusion"] = matrix.tolist()
        return {**found, "classes": list(self.classes)} if self.classes else found


def confusion(pred: jax.Array, label: jax.Array, valid: jax.Array, num_classes: int) -> jax.Array:
    """Counts pixels by truth and prediction; sums of such matrices are the matrix of the union.

    Counts are int32: a call must see fewer than 2^31 pixels. Add calls up in int64 on the host.

    Args:
      pred: int [B, H, W], predicted classes; anything outside 0..K-1 is void.
      label: int [B, H, W], true classes; likewise.
      valid: bool [B], false for an image that is padding, or [B, H, W], false at pixels that are; they are in no cell.
      num_classes: K.

    Returns:
      int32 [K + 1, K + 1], row = truth, column = prediction, the last of each void.
    """
    cells = num_classes + 1
    cell = _void_last(label, num_classes) * cells + _void_last(pred, num_classes)
    valid = valid.reshape(valid.shape + (1,) * (label.ndim - valid.ndim))
    counted = jnp.broadcast_to(valid, label.shape).astype(jnp.int32)
    return jnp.zeros(cells * cells, jnp.int32).at[cell].add(counted).reshape(cells, cells)


def _void_last(classes: jax.Array, num_classes: int) -> jax.Array:
    classes = classes.astype(jnp.int32)
    return jnp.where((classes >= 0) & (classes < num_classes), classes, num_classes)


def scores(matrix: np.ndarray, void: str = "ignore") -> dict[str, float | np.ndarray]:
    """Scores of a confusion matrix, after Long et al. (Fully Convolutional Networks, CVPR 2015, section 5).

    With tp, fp, fn the true positive, false positive and false negative pixels of a class and t its true pixels:
    IoU = tp / (tp + fp + fn), dice = 2 tp / (2 tp + fp + fn), accuracy of a class = tp / t, pixel accuracy =
    sum tp / sum t, fwIoU = sum t IoU / sum t. What has a zero denominator is NaN and left out of means: the IoU and
    dice of a class that is in neither truth nor prediction, the accuracy of one that is not in the truth.

    Conventions for void, by which published figures differ:
      ignore: pixels void in the truth are dropped; a void prediction on a true class is a miss (fn).
      union: as ignore, but a class predicted on void truth is a false positive (fp), so covering the void costs IoU.
      drop: pixels void in the truth or in the prediction are dropped.

    Args:
      matrix: int64 [K + 1, K + 1] as from `confusion`.
      void: the convention.

    Returns:
      `miou`, `pixel_accuracy`, `mean_accuracy`, `fwiou`, `mean_dice` (floats); `per_class_iou`, `per_class_accuracy`,
      `per_class_dice` (float64 [K]).

    Raises:
      ConfigError: an unknown convention.
    """
    if void not in VOIDS:
        raise ConfigError(f"unknown void convention {void!r}.{suggest(void, VOIDS)}")
    matrix = np.asarray(matrix, np.float64)
    classes = matrix.shape[0] - 1
    hits = np.diagonal(matrix)[:classes]
    truth = matrix[:classes, : classes if void == "drop" else None].sum(axis=1)
    predicted = matrix[: None if void == "union" else classes, :classes].sum(axis=0)
    iou = _ratio(hits, truth + predicted - hits)
    accuracy = _ratio(hits, truth)
    dice = _ratio(2.0 * hits, truth + predicted)
    return {
        "miou": mean_of_known(iou),
        "pixel_accuracy": float(_ratio(hits.sum(), truth.sum())),
        "mean_accuracy": mean_of_known(accuracy),
        "fwiou": float(_ratio(np.where(truth > 0, truth * iou, 0.0).sum(), truth.sum())),
        "mean_dice": mean_of_known(dice),
        "per_class_iou": iou,
        "per_class_accuracy": accuracy,
        "per_class_dice": dice,
    }


def mean_of_known(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN when there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    nothing = np.full(np.shape(below), np.nan)
    return np.divide(above, below, out=nothing, where=np.asarray(below) > 0)
