"""Instance segmentation: a mask, a class and a score for every thing.

Shape legend: B batch, H height, W width, N slots of true instances, L layers of ids, K classes of things, D detections.
The other letters are those of `core.schema`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.config import Config
from segjax.core.errors import ConfigError
from segjax.core.fields import Fields, make_field
from segjax.core.schema import (
    ANCHORS,
    BOX_DELTAS,
    BOX_LOGITS,
    DETECTED,
    IMAGE,
    INSTANCE,
    INSTANCE_AREA,
    INSTANCE_BOX,
    INSTANCE_CLASS,
    INSTANCE_CROWD,
    INSTANCE_VALID,
    MASK_LOGITS,
    ROI_BOX,
    ROI_MATCH,
    ROI_ROLE,
    RPN_DELTAS,
    RPN_LOGITS,
    SIZE,
    VALID,
    DatasetInfo,
)
from segjax.data.augment import make_train_transform, window_size
from segjax.data.options import Augment
from segjax.losses.detection import box_losses, mask_loss, proposal_losses
from segjax.metrics.average_precision import AveragePrecision
from segjax.metrics.base import Metric
from segjax.ops.boxes import boxes_of_layers
from segjax.ops.geometry import inside
from segjax.ops.paste import paste_masks
from segjax.ops.roi_align import mask_targets
from segjax.tasks.base import Batch, Outputs, Task, Transform
from segjax.tasks.instance.config import SCORE

_PER_SLOT = (INSTANCE_CLASS, INSTANCE_CROWD, INSTANCE_AREA, INSTANCE_BOX)


@dataclasses.dataclass(frozen=True)
class InstanceTask(Task):
    """Losses and metrics of two-stage detectors with masks, in detectron2's terms.

    Classes of batches, outputs and predictions are places in `things`, those of sources are classes of the data set.
    Padded slots and crowds are in no loss. An image without instances trains as background.

    The loss is the sum, with weight 1, of
      `loss/rpn_class`, `loss/rpn_box`: binary cross entropy and L1 of sampled anchors, over `rpn_samples` x images;
      `loss/class`: cross entropy, the mean over sampled regions;
      `loss/box`: L1 summed over the foreground among them, over all of them;
      `loss/mask`: binary cross entropy of the true class's mask, the mean over the foreground and its pixels.

    Attributes:
      things: K classes of the data set.
      classes: their names.
      max_instances: N; of an image that has more, the largest are kept.
      layers: L.
      rpn_samples: anchors of an image in the loss.
      rpn_positive: the share of them that may hold an object at most.
      rpn_thresholds: IoU below which an anchor holds none, and from which on it does.
      mask_threshold: the probability from which on a pixel is in a mask.
      augment: of training.

    Raises:
      ConfigError: no things, a number of names other than K, or no slot or layer.
    """

    things: tuple[int, ...]
    classes: tuple[str, ...]
    max_instances: int = 100
    layers: int = 1
    rpn_samples: int = 256
    rpn_positive: float = 0.5
    rpn_thresholds: tuple[float, float] = (0.3, 0.7)
    mask_threshold: float = 0.5
    augment: Augment = Augment()

    name: ClassVar[str] = "instance"
    score: ClassVar[str] = SCORE

    def __post_init__(self):
        if len(self.things) != len(self.classes) or not self.things:
            raise ConfigError(f"{len(self.things)} things with {len(self.classes)} names: give one each, at least one")
        if min(self.max_instances, self.layers) < 1:
            raise ConfigError(f"max_instances={self.max_instances} and layers={self.layers} must be at least 1")

    def num_classes_of(self, info: DatasetInfo) -> int:
        """The number of classes that have instances."""
        return len(info.things)

    def check_scored(self, dataset: Any, split: str) -> None:
        """Instances are needed; labels are not."""
        dataset.require_instances()

    def fields(self, info: DatasetInfo, size: tuple[int, int], train: bool) -> Fields:
        """`image`, the id layers, and of each slot `instance_class`, `_valid`, `_crowd`; `_area` and `_box` in
        evaluation."""
        slots = self.max_instances
        shapes = {
            IMAGE: ((*size, info.channels), info.image_dtype),
            INSTANCE: ((*size, self.layers), self._ids),
            INSTANCE_CLASS: ((slots,), np.int32),
            INSTANCE_VALID: ((slots,), bool),
            INSTANCE_CROWD: ((slots,), bool),
        }
        if not train:
            shapes |= {INSTANCE_AREA: ((slots,), np.float32), INSTANCE_BOX: ((slots, 4), np.float32)}
        return {key: make_field(key, *of_key) for key, of_key in shapes.items()}

    def collate(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Slots padded to N, layers to L; classes as places in `things`. The N largest stay where there are more."""
        layers, count = sample[INSTANCE], len(sample[INSTANCE_CLASS])
        if layers.shape[-1] > self.layers:
            raise ConfigError(f"{layers.shape[-1]} layers of instances, not {self.layers}: prepare the data set anew")
        kept = np.arange(count)
        if count > self.max_instances:
            _say_once(f"warning: an image has {count} instances; the {self.max_instances} largest are kept, here too.")
            pixels = np.bincount(layers.ravel(), minlength=count + 1)[1:]
            kept = np.sort(np.argsort(-pixels, kind="stable")[: self.max_instances])
        slots = np.zeros(count + 1, self._ids)
        slots[kept + 1] = np.arange(1, len(kept) + 1)
        found = {**sample, INSTANCE: np.zeros((*layers.shape[:2], self.layers), self._ids)}
        found[INSTANCE][..., : layers.shape[-1]] = slots[layers]
        for key in _PER_SLOT:
            if key in sample:
                values = sample[key][kept]
                found[key] = np.zeros((self.max_instances, *values.shape[1:]), values.dtype)
                found[key][: len(kept)] = values
        found[INSTANCE_VALID] = np.arange(self.max_instances) < len(kept)
        places = np.searchsorted(self.things, found[INSTANCE_CLASS]).astype(np.int32)
        found[INSTANCE_CLASS] = np.where(found[INSTANCE_VALID], places, 0)
        return found

    def window(self, size: tuple[int, int], largest: tuple[int, int] | None) -> tuple[int, int]:
        """What the smallest zoom sees."""
        return window_size(size, self.augment.scale, largest, self.augment.fit)

    def transform(self, info: DatasetInfo, size: tuple[int, int]) -> Transform:
        """Zoom, flip, colour, normalisation; then boxes from what the id layers still show, and slots without a pixel
        are no longer valid."""
        move = make_train_transform(self.augment, info, size)

        def transform(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
            batch = move(key, batch)
            boxes, pixels = jax.vmap(functools.partial(boxes_of_layers, slots=self.max_instances))(batch[INSTANCE])
            return {**batch, INSTANCE_BOX: boxes, INSTANCE_VALID: batch[INSTANCE_VALID] & (pixels > 0)}

        return transform

    def inputs(self, batch: Batch, train: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Images, their `size` where the batch has it, and in training the truth that regions are sampled by."""
        given = {"size": batch[SIZE]} if SIZE in batch else {}
        if train:
            given["targets"] = {key: batch[key] for key in (INSTANCE_BOX, INSTANCE_VALID, INSTANCE_CROWD)}
        return (batch[IMAGE],), given

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """`images`: how many."""
        return {"images": _valid_images(batch).sum(dtype=jnp.float32)}

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """`regions` that were sampled, and how many of them are `foreground`."""
        role = _roles(outputs, batch)
        return {
            "regions": (role >= 0).sum(dtype=jnp.float32),
            "foreground": (role == 1).sum(dtype=jnp.float32),
        }

    def loss(
        self, outputs: Outputs, batch: Batch, weights: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """See `Task.loss`; the key draws the anchors. A term with nothing to count is 0."""
        images, role = _valid_images(batch), _roles(outputs, batch)
        boxes, present = batch[INSTANCE_BOX], batch[INSTANCE_VALID] & ~batch[INSTANCE_CROWD]

        def proposals(key, logits, deltas, boxes, present):
            sampled = {"count": self.rpn_samples, "fraction": self.rpn_positive, "thresholds": self.rpn_thresholds}
            return proposal_losses(logits, deltas, outputs[ANCHORS], boxes, present, key, **sampled)

        def regions(logits, deltas, regions, role, match, boxes, classes):
            return box_losses(logits, deltas, regions, role, boxes[match], classes[match])

        def masks(logits, regions, role, match, instance, classes):
            count, height, width, _ = logits.shape
            truth = mask_targets(instance, match[:count], regions[:count], (height, width))
            return mask_loss(logits, truth, classes[match[:count]], role[:count] == 1)

        keys = jax.random.split(key, len(images))
        rpn_class, rpn_box = jax.vmap(proposals)(keys, outputs[RPN_LOGITS], outputs[RPN_DELTAS], boxes, present)
        found, match = (outputs[ROI_BOX], role, outputs[ROI_MATCH]), batch[INSTANCE_CLASS]
        class_, box = jax.vmap(regions)(outputs[BOX_LOGITS], outputs[BOX_DELTAS], *found, boxes, match)
        mask = jax.vmap(masks)(outputs[MASK_LOGITS], *found, batch[INSTANCE], match)

        anchors = self.rpn_samples * weights["images"]
        parts = {
            "loss/rpn_class": _share(rpn_class, images, anchors),
            "loss/rpn_box": _share(rpn_box, images, anchors),
            "loss/class": _share(class_, images, weights["regions"]),
            "loss/box": _share(box, images, weights["regions"]),
            "loss/mask": _share(mask, images, weights["foreground"]),
        }
        total = sum(parts.values())
        return total, {"loss": total, **parts}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """`box` float32 [B, D, 4], `class` int32, `score` float32 and `valid` bool [B, D], `mask` bool [B, D, H, W].

        Masks end with the image. A detection at a time is pasted, so that its scores alone are held at full size.
        """
        found = outputs[DETECTED]
        height, width = batch[IMAGE].shape[1:3]
        masks = jax.nn.sigmoid(outputs[MASK_LOGITS])
        masks = jnp.take_along_axis(masks, found["class"][..., None, None, None], axis=-1)[..., 0]
        shown = found["valid"][..., None, None]
        if SIZE in batch:
            shown = shown & inside(batch[SIZE], height, width)[:, None]

        def paste(of_rank: tuple[jax.Array, jax.Array]) -> jax.Array:
            return paste_masks(*of_rank, (height, width), self.mask_threshold)

        pasted = jax.lax.map(paste, tuple(jnp.moveaxis(x, 1, 0) for x in (masks, found["box"])))
        return {**found, "mask": jnp.moveaxis(pasted, 0, 1) & shown}

    def metrics(self) -> dict[str, Metric]:
        """COCO's average precision by masks, `mask`, and by boxes, `box`."""
        return {kind: AveragePrecision(len(self.things), kind) for kind in ("mask", "box")}

    def metric_result(self, state: dict[str, Any]) -> dict[str, float | list]:
        """See `Task.metric_result`; `classes` are the names of those that are scored."""
        return {**super().metric_result(state), "classes": list(self.classes)}

    @property
    def _ids(self) -> np.dtype:
        return np.dtype(np.uint8 if self.max_instances <= 255 else np.uint16)


def _valid_images(batch: Batch) -> jax.Array:
    """bool [B]; training batches may come without a mask."""
    return batch[VALID].astype(bool) if VALID in batch else jnp.ones(batch[IMAGE].shape[0], bool)


def _roles(outputs: Outputs, batch: Batch) -> jax.Array:
    """int8 [B, S]: those of regions, and -1 in images that do not count."""
    return jnp.where(_valid_images(batch)[:, None], outputs[ROI_ROLE], -1)


def _share(sums: jax.Array, images: jax.Array, normaliser: jax.Array) -> jax.Array:
    return jnp.where(images, sums, 0).sum() / jnp.maximum(normaliser, 1)


@functools.cache
def _say_once(message: str) -> None:
    print(message, flush=True)


def make(config: Config, info: DatasetInfo, dataset: Any = None) -> InstanceTask:
    """The task of a config.

    Raises:
      ConfigError: a data set without instances.
    """
    if not info.things:
        raise ConfigError(f"config.task: data set {info.name!r} has no instances; take semantic, or another set.")
    return InstanceTask(
        things=info.things,
        classes=tuple(info.classes[thing] for thing in info.things),
        max_instances=max(1, info.max_instances),
        layers=max(1, info.layers),
        augment=config.augment,
    )
