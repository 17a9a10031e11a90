"""Semantic segmentation: a class for every pixel.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError, suggest
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LABEL, LOGITS, VALID
from segjax.losses import Loss, get_loss
from segjax.losses.blocked import blocked_sums
from segjax.losses.border import border_loss
from segjax.metrics.boundary import TOLERANCE, boundary_counts, boundary_f1, diagonal_tolerance
from segjax.metrics.confusion import VOIDS, confusion, mean_of_known, scores
from segjax.ops.logits import Logits
from segjax.tasks.base import Batch, MetricState, Outputs

SIZE = "size"
"""Optional batch key, int [B, 2]: height and width of each image before it was padded at the bottom and right."""


@dataclasses.dataclass(frozen=True)
class SemanticTask:
    """Losses and metrics of semantic segmentation.

    Batches carry `label` [B, H, W] and, optionally, `valid` [B]. Pixels labelled IGNORE and images that are not valid
    count in no loss. In metrics an image that is not valid, and what lies beyond `size` where the batch has it, count
    nowhere, while the void inside an image goes by the convention `void`.

    Attributes:
      num_classes: K.
      loss_name: a name of `segjax.losses`, or a `Loss` with its constants set.
      label_smoothing: share of the target spread over all classes, in [0, 1).
      class_weights: K weights, or None.
      aux_weight: weight of each auxiliary output's loss, beside 1 for the main output.
      border_weight: weight of the loss of the network's border logits; 0 ignores them.
      void: convention of the metrics, see `segjax.metrics.confusion.scores`.
      classes: K names, handed through to the result.
      boundary: whether to compute boundary F1.
      boundary_tolerance: its tolerance, as a share of the image diagonal (of the padded image without `size`).

    Raises:
      ConfigError: an unknown loss or convention, a number of weights or names other than K.
    """

    num_classes: int
    loss_name: str | Loss = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None
    aux_weight: float = 0.4
    border_weight: float = 0.0
    void: str = "ignore"
    classes: Sequence[str] = ()
    boundary: bool = True
    boundary_tolerance: float = TOLERANCE

    def __post_init__(self):
        if isinstance(self.loss_name, str):
            get_loss(self.loss_name)
        if self.void not in VOIDS:
            raise ConfigError(f"unknown void convention {self.void!r}.{suggest(self.void, VOIDS)}")
        if self.class_weights is not None and len(self.class_weights) != self.num_classes:
            raise ConfigError(f"{len(self.class_weights)} class weights for {self.num_classes} classes: give one each")
        if self.classes and len(self.classes) != self.num_classes:
            raise ConfigError(f"{len(self.classes)} class names for {self.num_classes} classes: give one each")

    def loss_weight(self, batch: Batch) -> jax.Array:
        """The sum of the loss's weights over the batch; see `Task.loss_weight`."""
        weights = self._loss.weights(batch[LABEL], _valid_pixels(batch), self.num_classes, self._class_weights)
        return weights.sum()

    def loss(self, outputs: Outputs, batch: Batch, weight: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Main loss plus `aux_weight` times the auxiliary losses plus `border_weight` times the border loss; see
        `Task.loss`.

        Beside `loss` stand `loss/main` and, where the network has such outputs, `loss/aux` (the auxiliary losses'
        unweighted sum) and `loss/border` (unless its weight is 0): of each image its own, images weighed as in the main
        loss. A batch whose weight is 0 has loss 0.

        Raises:
          ConfigError: a border weight, and a network without border logits.
        """
        # A traced weight, a member's of a sweep, stands for one that is not 0.
        bordered = isinstance(self.border_weight, jax.Array) or self.border_weight != 0
        if bordered and BORDER_LOGITS not in outputs:
            raise ConfigError(
                f"config.loss.border_weight is {self.border_weight}, but the network has no {BORDER_LOGITS}: set it to "
                "0, or take one that has them, such as dfn."
            )
        valid = _valid_pixels(batch)
        scale = jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight, 1.0), 0.0)

        def share(logits: Logits) -> jax.Array:
            given = {"class_weights": self._class_weights, "label_smoothing": self.label_smoothing}
            if self._loss.pixelwise and not logits.full_size:
                values = blocked_sums(self._loss, logits, batch[LABEL], valid, **given)
            else:
                values, _ = self._loss(logits.upsample(), batch[LABEL], valid, **given)
            return values.sum() * scale

        total = main = share(outputs[LOGITS])
        parts = {"loss/main": main}
        if auxiliary := outputs.get(AUX_LOGITS, ()):
            parts["loss/aux"] = sum(share(logits) for logits in auxiliary)
            total += self.aux_weight * parts["loss/aux"]
        if bordered:
            values, _ = border_loss(outputs[BORDER_LOGITS].upsample(), batch[LABEL], valid, self.num_classes)
            images = self._loss.weights(batch[LABEL], valid, self.num_classes, self._class_weights)
            images = images.sum(axis=tuple(range(1, images.ndim)))
            parts["loss/border"] = (values * images).sum() * scale
            total += self.border_weight * parts["loss/border"]
        return total, {"loss": total, **parts}

    def metric_init(self) -> MetricState:
        """Zeros: `confusion` int64 [K + 1, K + 1]; with `boundary` also `boundary_f1` float64 [K], the sum over images,
        and `boundary_images` int64 [K], how many there were."""
        state = {"confusion": np.zeros((self.num_classes + 1,) * 2, np.int64)}
        if self.boundary:
            state["boundary_f1"] = np.zeros(self.num_classes, np.float64)
            state["boundary_images"] = np.zeros(self.num_classes, np.int64)
        return state

    def metric_update(self, predictions: jax.Array, batch: Batch) -> MetricState:
        """Sums of one batch, in the keys of `metric_init`, int32 and float32.

        Args:
          predictions: int [B, H, W], predicted classes.
          batch: labels, `valid`, and `size` if there is one.
        """
        label = batch[LABEL]
        height, width = label.shape[1:]
        inside = jnp.broadcast_to(_valid_images(batch)[:, None, None], label.shape)
        tolerance = limit = diagonal_tolerance(height, width, self.boundary_tolerance)
        if SIZE in batch:
            heights, widths = batch[SIZE][:, 0], batch[SIZE][:, 1]
            inside &= jnp.arange(height)[:, None] < heights[:, None, None]
            inside &= jnp.arange(width) < widths[:, None, None]
            sides = heights.astype(jnp.float32), widths.astype(jnp.float32)
            tolerance = diagonal_tolerance(*sides, self.boundary_tolerance)
        state = {"confusion": confusion(predictions, label, inside, self.num_classes)}
        if self.boundary:
            counts = boundary_counts(predictions, label, inside, self.num_classes, tolerance, limit)
            f1, present = boundary_f1(counts)
            state["boundary_f1"] = jnp.where(present, f1, 0.0).sum(axis=0)
            state["boundary_images"] = present.sum(axis=0, dtype=jnp.int32)
        return state

    def metric_merge(self, a: MetricState, b: MetricState) -> MetricState:
        """Adds two states key by key on the host; see `Task.metric_merge`."""

        def wide(x):
            x = np.asarray(x)
            return x.astype(np.int64 if np.issubdtype(x.dtype, np.integer) else np.float64)

        return {key: wide(a[key]) + wide(b[key]) for key in a}

    def metric_result(self, state: MetricState) -> dict[str, float | list]:
        """Scores of a state.

        Returns:
          Floats `miou`, `pixel_accuracy`, `mean_accuracy`, `fwiou`, `mean_dice` and, with `boundary`, `boundary_f1`;
          lists of K floats `per_class_iou`, `per_class_accuracy`, `per_class_dice` and `per_class_boundary_f1`; the
          matrix as nested lists `confusion` ([K + 1][K + 1], row = truth, last = void); `classes`, if they have names.
          NaN stands for what does not exist, such as the IoU of a class in neither truth nor prediction.
        """
        matrix = np.asarray(state["confusion"])
        result = {
            key: value if np.ndim(value) == 0 else value.tolist() for key, value in scores(matrix, self.void).items()
        }
        if self.boundary:
            images = np.asarray(state["boundary_images"], np.float64)
            total = np.asarray(state["boundary_f1"], np.float64)
            per_class = np.divide(total, images, out=np.full(images.shape, np.nan), where=images > 0)
            result["boundary_f1"] = mean_of_known(per_class)
            result["per_class_boundary_f1"] = per_class.tolist()
        result["confusion"] = matrix.tolist()
        if self.classes:
            result["classes"] = list(self.classes)
        return result

    @property
    def _loss(self) -> Loss:
        return get_loss(self.loss_name) if isinstance(self.loss_name, str) else self.loss_name

    @property
    def _class_weights(self) -> jax.Array | None:
        return None if self.class_weights is None else jnp.asarray(self.class_weights, jnp.float32)


def _valid_images(batch: Batch) -> jax.Array:
    """bool [B]; training batches may come without a mask."""
    return batch[VALID].astype(bool) if VALID in batch else jnp.ones(batch[LABEL].shape[0], bool)


def _valid_pixels(batch: Batch) -> jax.Array:
    return jnp.broadcast_to(_valid_images(batch)[:, None, None], batch[LABEL].shape)
