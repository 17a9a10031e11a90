"""Semantic segmentation: a class for every pixel.

Shape legend: B batch, H height, W width, K classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from segjax.core.config import Config
from segjax.core.errors import ConfigError, suggest
from segjax.core.fields import Fields, labelled_image
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LABEL, LOGITS, SIZE, VALID, DatasetInfo
from segjax.data.augment import make_train_transform, window_size
from segjax.data.options import Augment
from segjax.losses import get_loss
from segjax.losses.base import Loss
from segjax.losses.blocked import blocked_sums
from segjax.losses.border import border_loss
from segjax.losses.class_weights import class_weights
from segjax.metrics.base import Metric
from segjax.metrics.boundary import TOLERANCE, BoundaryF1
from segjax.metrics.confusion import VOIDS, ConfusionMatrix
from segjax.ops.logits import Logits
from segjax.postprocess.semantic import labels_of
from segjax.tasks.base import Batch, Outputs, Task, Transform
from segjax.tasks.semantic.config import SCORE


@dataclasses.dataclass(frozen=True)
class SemanticTask(Task):
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
      void_class: the output that means void, where the network has one.
      augment: of training.

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
    void_class: int | None = None
    augment: Augment = Augment()

    name: ClassVar[str] = "semantic"
    score: ClassVar[str] = SCORE

    def __post_init__(self):
        if isinstance(self.loss_name, str):
            get_loss(self.loss_name)
        if self.void not in VOIDS:
            raise ConfigError(f"unknown void convention {self.void!r}.{suggest(self.void, VOIDS)}")
        if self.class_weights is not None and len(self.class_weights) != self.num_classes:
            raise ConfigError(f"{len(self.class_weights)} class weights for {self.num_classes} classes: give one each")
        if self.classes and len(self.classes) != self.num_classes:
            raise ConfigError(f"{len(self.classes)} class names for {self.num_classes} classes: give one each")

    def check_scored(self, dataset: Any, split: str) -> None:
        """A label of some class is needed."""
        dataset.require_labels(split)

    def fields(self, info: DatasetInfo, size: tuple[int, int], train: bool) -> Fields:
        """`image` and `label`."""
        return labelled_image(size, info.channels, info.image_dtype)

    def window(self, size: tuple[int, int], largest: tuple[int, int] | None) -> tuple[int, int]:
        """What the smallest zoom sees."""
        return window_size(size, self.augment.scale, largest, self.augment.fit)

    def transform(self, info: DatasetInfo, size: tuple[int, int]) -> Transform:
        """Zoom, flip, colour, normalisation."""
        return make_train_transform(self.augment, info, size)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """`labels`: the sum of the loss's weights over the batch."""
        weights = self._loss.weights(batch[LABEL], _valid_pixels(batch), self.num_classes, self._class_weights)
        return {"labels": weights.sum()}

    def loss(
        self, outputs: Outputs, batch: Batch, weights: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Main loss plus `aux_weight` times the auxiliary losses plus `border_weight` times the border loss; see
        `Task.loss`.

        Beside `loss` stand `loss/main` and, where the network has such outputs, `loss/aux` (the auxiliary losses'
        unweighted sum) and `loss/border` (unless its weight is 0): of each image its own, images weighed as in the main
        loss. A batch whose weight is 0 has loss 0.

        Raises:
          ConfigError: a border weight, and a network without border logits.
        """
        bordered = self.border_weight != 0
        if bordered and BORDER_LOGITS not in outputs:
            raise ConfigError(
                f"config.loss.border_weight is {self.border_weight}, but the network has no {BORDER_LOGITS}: set it to "
                "0, or take one that has them, such as dfn."
            )
        valid, weight = _valid_pixels(batch), weights["labels"]
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

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """`label` [B, H, W], uint8 up to 255 classes, else int32: IGNORE outside an image's `size`, and where
        `void_class` wins."""
        scores = outputs[LOGITS].upsample()
        sizes = batch.get(SIZE, jnp.full((scores.shape[0], 2), jnp.asarray(scores.shape[1:3], jnp.int32)))
        return {LABEL: labels_of(scores, sizes, self.void_class)}

    def metrics(self) -> dict[str, Metric]:
        """`confusion` and, with `boundary`, `boundary`."""
        found: dict[str, Metric] = {"confusion": ConfusionMatrix(self.num_classes, self.void, tuple(self.classes))}
        if self.boundary:
            found["boundary"] = BoundaryF1(self.num_classes, self.boundary_tolerance)
        return found

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


def make(config: Config, info: DatasetInfo, dataset: Any = None) -> SemanticTask:
    """The task of a config; for training with a `data.dataset.Dataset`, on whose training split classes are weighed.

    Raises:
      ConfigError: class weights of another number than the classes.
      DataError: a training split with fewer than two classes in it.
    """
    return SemanticTask(
        num_classes=info.num_classes,
        loss_name=get_loss(config.loss.name, **config.loss.options),
        label_smoothing=config.loss.label_smoothing,
        class_weights=None if dataset is None else _class_weights(config, dataset),
        aux_weight=config.loss.aux_weight,
        border_weight=config.loss.border_weight,
        void=config.eval.void,
        classes=info.classes,
        boundary=config.eval.boundary,
        void_class=info.void_class,
        augment=config.augment,
    )


def _class_weights(config: Config, dataset: Any) -> tuple[float, ...] | None:
    dataset.require_classes(config.data.train_split)
    weights, classes = config.loss.class_weights, dataset.info.classes
    if isinstance(weights, tuple):
        if len(weights) != len(classes):
            raise ConfigError(
                f"config.loss.class_weights: {len(weights)} numbers, {len(classes)} classes; give one each."
            )
        return weights
    if weights == "none":
        return None
    pixels, present = dataset.class_counts(config.data.train_split)
    with warnings.catch_warnings(record=True) as caught:
        weights = tuple(class_weights(weights, pixels, present, classes=classes).tolist())
    for warning in caught:
        print(f"warning: {warning.message}", flush=True)
    return weights
