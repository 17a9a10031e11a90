"""Parts of point clouds: a class for every point of a shape.

Shape legend: B batch, P points, C channels of a point, K parts, S categories of shapes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.config import Config
from segjax.core.errors import ConfigError
from segjax.core.fields import Fields, make_field
from segjax.core.schema import CATEGORY, IGNORE, LOGITS, PART, POINT_VALID, POINTS, TRANSFORM, VALID, DatasetInfo
from segjax.losses import get_loss
from segjax.losses.base import Loss
from segjax.metrics.base import Metric
from segjax.metrics.part_iou import PartIoU
from segjax.tasks.base import Batch, MetricState, Outputs, Task, Transform
from segjax.tasks.points.config import SCORE, Augment


@dataclasses.dataclass(frozen=True)
class PointsTask(Task):
    """Losses and metrics of part segmentation.

    Batches carry `points` [B, P, C], `point_valid` [B, P], `part` [B, P], `category` [B] and, optionally, `valid` [B].
    Points that are not valid, whose part is no class, or of clouds that are not valid count in no loss.

    Attributes:
      num_classes: K.
      categories: (name, its parts) of each category; one of all parts where the data set has none.
      augment: of training; `normalise` of evaluation too.
      regulariser, regulariser_weight: of the feature transform, as in `config.loss`.
      loss_name: a name of `segjax.losses`, or a `Loss` with its constants set.
      label_smoothing: share of the target spread over all parts, in [0, 1).
      class_weights: K weights, or None.
    """

    num_classes: int
    categories: tuple[tuple[str, tuple[int, ...]], ...]
    augment: Augment = Augment()
    regulariser: str = "squared"
    regulariser_weight: float = 1e-3
    loss_name: str | Loss = "cross_entropy"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    name: ClassVar[str] = "points"
    score: ClassVar[str] = SCORE
    subject: ClassVar[str] = POINTS
    predicted_from: ClassVar[tuple[str, ...]] = (POINTS, CATEGORY, POINT_VALID)

    def network_fields(self, info: DatasetInfo) -> dict[str, Any]:
        """The number of categories that the network is told of."""
        return {"num_categories": len(info.categories)}

    def fields(self, info: DatasetInfo, size: tuple[int, int] | None, train: bool) -> Fields:
        """Clouds padded to the largest of the data set, for training too: the device chooses points among all."""
        length = info.max_points or self.augment.count
        return {
            POINTS: make_field(POINTS, (length, info.channels), np.float32),
            POINT_VALID: make_field(POINT_VALID, (length,), bool),
            PART: make_field(PART, (length,), np.int32),
            CATEGORY: make_field(CATEGORY, (), np.int32),
        }

    def input_shape(self, info: DatasetInfo, size: tuple[int, int]) -> tuple[int, ...]:
        """Of a training cloud."""
        return self.augment.count, info.channels

    def collate(self, sample: dict[str, Any]) -> dict[str, Any]:
        """`points` in the unit sphere, if they are to be; all are valid. Parts and category may be missing: void, and
        -1, which no category is."""
        points = np.asarray(sample[POINTS], np.float32)
        count = len(points)
        if self.augment.normalise:
            places = points[:, :3] - points[:, :3].mean(axis=0)
            places /= max(float(np.linalg.norm(places, axis=1).max()), 1e-12)
            points = np.concatenate([places, points[:, 3:]], axis=1)
        return {
            POINTS: points,
            POINT_VALID: np.ones(count, bool),
            PART: np.asarray(sample.get(PART, np.full(count, IGNORE)), np.int32),
            CATEGORY: np.int32(sample.get(CATEGORY, -1)),
        }

    def transform(self, info: DatasetInfo, size: tuple[int, int]) -> Transform:
        """Chooses `augment.count` of each cloud's points, all different; turns, scales, shifts and jitters them."""
        return make_transform(self.augment)

    def inputs(self, batch: Batch, train: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Points, categories, and which points are valid."""
        return (batch[POINTS], batch[CATEGORY], batch[POINT_VALID]), {}

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """`points`, the sum of the loss's weights, and `clouds`, the number of valid ones."""
        labels, valid = _as_images(batch)
        weights = self._loss.weights(labels, valid, self.num_classes, self._class_weights)
        return {"points": weights.sum(), "clouds": _valid_clouds(batch).sum(dtype=jnp.float32)}

    def loss(
        self, outputs: Outputs, batch: Batch, weights: Mapping[str, jax.Array], key: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The mean over points plus the feature transform's regulariser; see `Task.loss`.

        The regulariser is that of equation 2 of PointNet (Qi et al., CVPR 2017), on the transform A of each cloud.
        `squared`: 1/2 |A A^T - I|_F^2, the sum over the batch, as charlesq34/pointnet has it. `norm`: the mean of
        |A A^T - I|_F, the PyTorch ports' (which write A (A^T - I), so that an orthogonal A other than I costs, too).
        Beside `loss` stand `loss/points` and, where the network has a transform, `loss/transform` before its weight.
        """
        labels, valid = _as_images(batch)
        given = {"class_weights": self._class_weights, "label_smoothing": self.label_smoothing}
        values, _ = self._loss(outputs[LOGITS][:, :, None], labels, valid, **given)
        total = main = values.sum() * _inverse(weights["points"])
        parts = {"loss/points": main}
        if TRANSFORM in outputs:
            parts["loss/transform"] = self._regulariser(outputs[TRANSFORM], _valid_clouds(batch), weights["clouds"])
            total += self.regulariser_weight * parts["loss/transform"]
        return total, {"loss": total, **parts}

    def predict(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """`label` int32 [B, P]: the likeliest part among the category's, among all where it is not known."""
        own = np.ones((len(self.categories) + 1, self.num_classes), bool)  # the last row: not known
        for row, (_, parts) in zip(own, self.categories):
            row[:] = np.isin(np.arange(self.num_classes), parts)
        category = batch[CATEGORY]
        known = (category >= 0) & (category < len(self.categories))
        allowed = jnp.asarray(own)[jnp.where(known, category, len(self.categories))]
        scores = jnp.where(allowed[:, None], outputs[LOGITS], -jnp.inf)
        return {"label": jnp.argmax(scores, axis=-1).astype(jnp.int32)}

    def metrics(self) -> dict[str, Metric]:
        """`part_iou`."""
        return {"part_iou": PartIoU(tuple(parts for _, parts in self.categories))}

    def metric_result(self, state: MetricState) -> dict[str, float | list]:
        """With the categories' names."""
        return {**super().metric_result(state), "categories": [name for name, _ in self.categories]}

    def _regulariser(self, transform: jax.Array, valid: jax.Array, clouds: jax.Array) -> jax.Array:
        identity = jnp.eye(transform.shape[-1])
        squares = jnp.square(transform @ transform.mT - identity).sum(axis=(1, 2))
        if self.regulariser == "squared":
            return 0.5 * jnp.where(valid, squares, 0).sum()
        # The root has no gradient at 0, where the transform starts.
        norms = jnp.sqrt(jnp.where(squares > 0, squares, 1)) * (squares > 0)
        return jnp.where(valid, norms, 0).sum() * _inverse(clouds)

    @property
    def _loss(self) -> Loss:
        return get_loss(self.loss_name) if isinstance(self.loss_name, str) else self.loss_name

    @property
    def _class_weights(self) -> jax.Array | None:
        return None if self.class_weights is None else jnp.asarray(self.class_weights, jnp.float32)


def _valid_clouds(batch: Batch) -> jax.Array:
    """bool [B]; training batches may come without a mask."""
    return batch[VALID].astype(bool) if VALID in batch else jnp.ones(batch[CATEGORY].shape, bool)


def _as_images(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Parts and the points that count as labels and valid pixels [B, P, 1], which losses take."""
    valid = batch[POINT_VALID] & _valid_clouds(batch)[:, None]
    return batch[PART][:, :, None], valid[:, :, None]


def _inverse(weight: jax.Array) -> jax.Array:
    return jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight, 1.0), 0.0)


def make_transform(settings: Augment) -> Transform:
    """The jittable `transform(key, batch) -> batch` of training; see `PointsTask.transform`.

    Rotation, scale and noise are those of charlesq34/pointnet's provider.py, the shift that of yanx27's. Where points
    have six channels the last three are normals, and turn with them.
    """

    def transform(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        choice_key, angle_key, scale_key, shift_key, noise_key = jax.random.split(key, 5)
        valid, count = batch[POINT_VALID], len(batch[POINTS])
        drawn = jnp.where(valid, jax.random.uniform(choice_key, valid.shape), jnp.inf)
        chosen = jnp.argsort(drawn, axis=1)[:, : settings.count]
        moved = {name: jnp.take_along_axis(batch[name], chosen, axis=1) for name in (POINT_VALID, PART)}
        points = jnp.take_along_axis(batch[POINTS], chosen[..., None], axis=1)
        if settings.rotate:
            angle = jax.random.uniform(angle_key, (count,), maxval=2 * jnp.pi)
            cosine, sine, zero, one = jnp.cos(angle), jnp.sin(angle), jnp.zeros(count), jnp.ones(count)
            rows = [[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]
            turn = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=1)
            vectors = 6 if points.shape[-1] == 6 else 3
            turned = [points[..., start : start + 3] @ turn for start in range(0, vectors, 3)]
            points = jnp.concatenate([*turned, points[..., vectors:]], axis=-1)
        places = points[..., :3]
        if settings.scale != (1.0, 1.0):
            low, high = settings.scale
            places *= jax.random.uniform(scale_key, (count, 1, 1), minval=low, maxval=high)
        if settings.shift:
            places += jax.random.uniform(shift_key, (count, 1, 3), minval=-settings.shift, maxval=settings.shift)
        if settings.jitter:
            noise = settings.jitter * jax.random.normal(noise_key, places.shape)
            places += jnp.clip(noise, -settings.jitter_limit, settings.jitter_limit)
        return {**batch, **moved, POINTS: jnp.concatenate([places, points[..., 3:]], axis=-1)}

    return transform


def make(config: Config, info: DatasetInfo, dataset: Any = None) -> PointsTask:
    """The task of a config.

    Raises:
      ConfigError: class weights of another number than the parts.
    """
    weights = config.loss.class_weights
    if weights is not None and len(weights) != info.num_classes:
        raise ConfigError(
            f"config.loss.class_weights: {len(weights)} numbers, {info.num_classes} parts; give one each."
        )
    return PointsTask(
        num_classes=info.num_classes,
        categories=info.categories or (("shape", tuple(range(info.num_classes))),),
        augment=config.augment,
        regulariser=config.loss.regulariser,
        regulariser_weight=config.loss.regulariser_weight,
        loss_name=get_loss(config.loss.name, **config.loss.options),
        label_smoothing=config.loss.label_smoothing,
        class_weights=weights,
    )
