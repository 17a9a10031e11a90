"""Panoptic segmentation by centres and offsets: a class for every pixel, and an instance for those of things.

The losses and the grouping are those of Panoptic-DeepLab (Cheng et al., CVPR 2020, arXiv:1911.10194, section 3).

Shape legend: B batch, H height, W width, K classes, N slots of instances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.config import Config
from segjax.core.errors import ConfigError, DataError
from segjax.core.fields import Fields, labelled_image, make_field
from segjax.core.schema import (
    CENTER,
    INSTANCE,
    INSTANCE_CLASS,
    INSTANCE_CROWD,
    INSTANCE_VALID,
    LABEL,
    LOGITS,
    OFFSET,
    SIZE,
    VALID,
    DatasetInfo,
)
from segjax.data.augment import make_train_transform, window_size
from segjax.data.options import Augment
from segjax.losses.hard_cross_entropy import hard_cross_entropy, hard_pixels
from segjax.losses.regression import absolute_error, squared_error
from segjax.metrics.base import Metric
from segjax.metrics.confusion import ConfusionMatrix
from segjax.metrics.panoptic_quality import PanopticQuality
from segjax.postprocess.panoptic import group_by_centers
from segjax.postprocess.semantic import labels_of
from segjax.tasks.base import Batch, Outputs, Task, Transform
from segjax.tasks.panoptic.config import SCORE
from segjax.tasks.panoptic.targets import centers_of_mass, heatmap, of_slots, offsets

DEFAULT_SLOTS = 100
"""Of a data set that does not say how many instances an image has."""


@dataclasses.dataclass(frozen=True)
class PanopticTask(Task):
    """Losses, grouping and metrics of panoptic segmentation.

    Batches carry `label` [B, H, W], `instance` [B, H, W, 1], `instance_class`, `instance_valid` and `instance_crowd`
    [B, N] and, optionally, `valid` [B]. Pixels labelled IGNORE, and images that are not valid, count in no loss. Crowds
    and pixels of things without an instance count in the semantic loss alone.

    Attributes:
      num_classes: K.
      things: the classes with instances.
      max_instances: N; of an image with more the largest stay.
      classes: K names, handed through to the result.
      void: convention of the mean IoU, see `segjax.metrics.confusion.scores`.
      augment: of training.
      semantic_weight, center_weight, offset_weight: of the three losses.
      hard_share: of an image's pixels, those of the largest loss, in (0, 1]: the semantic loss is their mean.
      small_area, small_weight: pixels of instances smaller than this weigh so much in the semantic loss.
      sigma: standard deviation of a centre's Gaussian, pixels.
      threshold, centers, stuff_area: of `segjax.postprocess.panoptic.group_by_centers`; `peak_window` is its `window`.

    Raises:
      ConfigError: a thing that is no class.
    """

    num_classes: int
    things: tuple[int, ...]
    max_instances: int = DEFAULT_SLOTS
    classes: tuple[str, ...] = ()
    void: str = "ignore"
    augment: Augment = Augment()
    semantic_weight: float = 1.0
    center_weight: float = 200.0
    offset_weight: float = 0.01
    hard_share: float = 0.2
    small_area: int = 4096
    small_weight: float = 3.0
    sigma: float = 8.0
    threshold: float = 0.1
    peak_window: int = 7
    centers: int = 200
    stuff_area: int = 2048

    name: ClassVar[str] = "panoptic"
    score: ClassVar[str] = SCORE

    def __post_init__(self):
        if not set(self.things) <= set(range(self.num_classes)):
            raise ConfigError(f"things {self.things} are not all of the classes 0..{self.num_classes - 1}.")

    def check_scored(self, dataset: Any, split: str) -> None:
        """A label of some class is needed."""
        dataset.require_labels(split)

    def fields(self, info: DatasetInfo, size: tuple[int, int], train: bool) -> Fields:
        """`image`, `label`, `instance` of one layer, and the slots' `instance_class`, `instance_valid` and
        `instance_crowd`."""
        slots = (self.max_instances,)
        return labelled_image(size, info.channels, info.image_dtype) | {
            INSTANCE: make_field(INSTANCE, (*size, 1), _id_type(self.max_instances)),
            INSTANCE_CLASS: make_field(INSTANCE_CLASS, slots, np.int32),
            INSTANCE_VALID: make_field(INSTANCE_VALID, slots, bool),
            INSTANCE_CROWD: make_field(INSTANCE_CROWD, slots, bool),
        }

    def collate(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Instances padded to N slots; of more the largest, in their order."""
        layer, slots = sample[INSTANCE][..., :1], self.max_instances
        count = len(sample[INSTANCE_CLASS])
        area = np.bincount(layer.ravel(), minlength=count + 1)[1 : count + 1]
        kept = np.sort(np.argsort(-area, kind="stable")[:slots])
        table = np.zeros(max(count, int(layer.max(initial=0))) + 1, _id_type(slots))
        table[kept + 1] = np.arange(1, len(kept) + 1)

        def padded(values: np.ndarray, dtype: Any) -> np.ndarray:
            return np.pad(np.asarray(values)[kept].astype(dtype), (0, slots - len(kept)))

        return {
            **sample,
            INSTANCE: table[layer],
            INSTANCE_CLASS: padded(sample[INSTANCE_CLASS], np.int32),
            INSTANCE_VALID: padded(area > 0, bool),
            INSTANCE_CROWD: padded(sample[INSTANCE_CROWD], bool),
        }

    def window(self, size: tuple[int, int], largest: tuple[int, int] | None) -> tuple[int, int]:
        """What the smallest zoom sees."""
        return window_size(size, self.augment.scale, largest, self.augment.fit)

    def transform(self, info: DatasetInfo, size: tuple[int, int]) -> Transform:
        """Zoom, flip, colour, normalisation. Centres and offsets follow from the id map, in `loss`."""
        return make_train_transform(self.augment, info, size)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """`hard` pixels of the semantic loss, and how many values `center` and `offset` have to learn from."""
        hard = hard_pixels(batch[LABEL], _valid_pixels(batch), self.num_classes, self.hard_share)
        centers, own = self._regions(batch)
        counts = {"hard": hard, "center": centers.sum(axis=(1, 2)), "offset": 2 * own.sum(axis=(1, 2))}
        return {name: count.astype(jnp.float32).sum() for name, count in counts.items()}

    def loss(
        self, outputs: Outputs, batch: Batch, weights: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Hard-pixel cross entropy, squared error of the heatmap, absolute error of the offsets; see `Task.loss`.

        The three are compared at the image's size, as in the authors' code. Beside `loss` stand `loss/semantic`,
        `loss/center` and `loss/offset`, without their weights.
        """
        layer, present = batch[INSTANCE][..., 0], batch[INSTANCE_VALID] & ~batch[INSTANCE_CROWD]
        found, (centers, own) = centers_of_mass(layer, present.shape[1]), self._regions(batch)
        small = of_slots(layer, batch[INSTANCE_VALID] & (found.area < self.small_area))
        pixel_weights = jnp.where(small, self.small_weight, 1.0)
        center = heatmap(found.place, present & (found.area > 0), layer.shape[1:], self.sigma)

        valid = _valid_pixels(batch)
        sums = {
            "hard": hard_cross_entropy(outputs[LOGITS].upsample(), batch[LABEL], valid, pixel_weights, self.hard_share),
            "center": squared_error(outputs[CENTER].upsample(), center[..., None], centers),
            "offset": absolute_error(outputs[OFFSET].upsample(), offsets(found.place, layer), own),
        }
        # A term that has nothing to learn from in the whole batch is 0.
        share = {name: value.sum() / jnp.maximum(weights[name], 1.0) for name, value in sums.items()}
        total = (
            self.semantic_weight * share["hard"]
            + self.center_weight * share["center"]
            + self.offset_weight * share["offset"]
        )
        parts = {"loss/semantic": share["hard"], "loss/center": share["center"], "loss/offset": share["offset"]}
        return total, {"loss": total, **parts}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """The segments of `group_by_centers`, and `label` [B, H, W], the class of each pixel before grouping."""
        logits, center, offset = (outputs[key].upsample() for key in (LOGITS, CENTER, OFFSET))
        sizes = batch.get(SIZE, jnp.full((len(logits), 2), jnp.asarray(logits.shape[1:3], jnp.int32)))
        segments = group_by_centers(
            logits,
            center[..., 0],
            offset,
            sizes,
            self.things,
            threshold=self.threshold,
            window=self.peak_window,
            centers=self.centers,
            stuff_area=self.stuff_area,
        )
        return segments | {LABEL: labels_of(logits, sizes)}

    def metrics(self) -> dict[str, Metric]:
        """`panoptic`, and `confusion` of the labels before grouping."""
        return {
            "panoptic": PanopticQuality(self.num_classes, self.things),
            "confusion": ConfusionMatrix(self.num_classes, self.void, self.classes),
        }

    def _regions(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """bool [B, H, W] each: where the heatmap, and where the offsets learn.

        An instance that is no crowd teaches both, stuff that nothing of it is a centre, all else nothing.
        """
        layer, label = batch[INSTANCE][..., 0], batch[LABEL].astype(jnp.int32)
        own = of_slots(layer, batch[INSTANCE_VALID] & ~batch[INSTANCE_CROWD]) & _valid_pixels(batch)
        known = (label >= 0) & (label < self.num_classes) & ~jnp.isin(label, jnp.asarray(self.things, jnp.int32))
        return own | (known & (layer == 0) & _valid_pixels(batch)), own


def _valid_pixels(batch: Batch) -> jax.Array:
    """bool [B, H, W]; training batches may come without a mask."""
    valid = batch[VALID].astype(bool) if VALID in batch else jnp.ones(batch[LABEL].shape[0], bool)
    return jnp.broadcast_to(valid[:, None, None], batch[LABEL].shape)


def _id_type(slots: int) -> type:
    return np.uint8 if slots <= 255 else np.uint16


def make(config: Config, info: DatasetInfo, dataset: Any = None) -> PanopticTask:
    """The task of a config.

    Raises:
      DataError: a data set without instances, or with instances that overlap.
    """
    if not info.things or info.layers > 1:
        fault = "instances that overlap" if info.things else "no instances"
        raise DataError(f"config.task: panoptic needs a class and one instance a pixel, and {info.name!r} has {fault}.")
    evaluation = {
        name: getattr(config.eval, name) for name in ("void", "threshold", "peak_window", "centers", "stuff_area")
    }
    return PanopticTask(
        info.num_classes,
        info.things,
        max_instances=info.max_instances or DEFAULT_SLOTS,
        classes=info.classes,
        augment=config.augment,
        **dataclasses.asdict(config.loss),
        **evaluation,
    )
