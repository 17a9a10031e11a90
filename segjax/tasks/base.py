"""What trainer, evaluation and prediction ask of a task, and all they know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax

from segjax.core.fields import Fields
from segjax.core.schema import IMAGE, SIZE, DatasetInfo
from segjax.metrics.base import Metric

Batch = Mapping[str, jax.Array]
Outputs = Mapping[str, Any]
Predictions = Mapping[str, jax.Array]
Transform = Callable[[jax.Array, Batch], dict[str, jax.Array]]
MetricState = dict[str, Any]


class Task:
    """One kind of segmentation: binds a network's outputs to losses, predictions and metrics. Frozen and hashable.

    Losses are sums over normalisers that are known from the batch alone: micro-batches, devices and hosts add up, and
    where the batch is cut changes nothing.

    Attributes:
      name: of its folder, and of `config.task`.
      score: the metric that ranks checkpoints and images, the higher the better.
      subject: the key of what is segmented in a sample: an image, or the points of a cloud.
      predicted_from: the batch keys that `inputs` in evaluation and `predict` read. Annotations are not among them, so
        that one program serves images with and without.
    """

    name: ClassVar[str]
    score: ClassVar[str]
    subject: ClassVar[str] = IMAGE
    predicted_from: ClassVar[tuple[str, ...]] = (IMAGE, SIZE)

    def num_classes_of(self, info: DatasetInfo) -> int:
        """The number of classes that the network has."""
        return info.num_classes

    def network_fields(self, info: DatasetInfo) -> dict[str, Any]:
        """Further fields of the network that follow from the data set; `config.model.options` may say otherwise."""
        return {}

    def check_scored(self, dataset: Any, split: str) -> None:
        """Raises DataError where a split of a `data.dataset.Dataset` has nothing that could be scored."""

    def fields(self, info: DatasetInfo, size: tuple[int, int] | None, train: bool) -> Fields:
        """What a batch from the host holds, besides what the pipeline adds (`data.pipeline.batch_fields`).

        Args:
          info: of the data set.
          size: (height, width) of the windows in training, of the padded images in evaluation; of samples without
            pixels, nothing to go by.
          train: whether the batch is for training.
        """
        raise NotImplementedError

    def input_shape(self, info: DatasetInfo, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of what the network takes of one sample, to initialise it with."""
        return (*size, info.channels)

    def collate(self, sample: dict[str, Any]) -> dict[str, Any]:
        """A sample as its source has it -> its arrays, but for the cut to the fields' height and width; on the host."""
        return sample

    def window(self, size: tuple[int, int], largest: tuple[int, int] | None) -> tuple[int, int]:
        """(height, width) of the windows that the host cuts for samples of `size` from images of up to `largest`."""
        return size

    def transform(self, info: DatasetInfo, size: tuple[int, int]) -> Transform | None:
        """The jittable augmentation of training, (key, batch) -> batch of samples of `size`; on the device."""
        return None

    def inputs(self, batch: Batch, train: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of `network.apply`, after the variables."""
        return (batch[IMAGE],), {}

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The normaliser of each term of the loss over a whole batch, float32 scalars, from the batch alone; jittable.

        They add up: the sum over parts of a batch is that of the whole.
        """
        raise NotImplementedError

    def counts(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """Further normalisers that only the forward pass knows, such as how many proposals became foreground; jittable.

        They are added over devices and merged into the weights. With `config.train.accumulate` they are those of the
        micro-batch: the one exception to the rule that parts of a batch add up.
        """
        return {}

    def loss(
        self, outputs: Outputs, batch: Batch, weights: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """This part of the batch's share of the loss; jittable.

        Args:
          outputs: what the network returned for this part.
          batch: the part.
          weights: `weights` and `counts` of the whole batch. Shares of all parts add up to the loss of the whole.
          key: for losses that draw points.

        Returns:
          The share, float32 scalar, and named shares for the log, `loss` (the same number) among them.
        """
        raise NotImplementedError

    def predict(self, outputs: Outputs, batch: Batch) -> Predictions:
        """What is predicted, as arrays of fixed shapes that metrics and `view` read; jittable."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name; their results share one namespace."""
        raise NotImplementedError

    def metric_init(self) -> MetricState:
        """The state of all metrics before any image, numpy arrays."""
        return {name: metric.init() for name, metric in self.metrics().items()}

    def metric_update(self, predictions: Predictions, batch: Batch) -> MetricState:
        """The state of one batch, on the device; jittable. It is not added to a state: see `metric_merge`."""
        return {name: metric.update(predictions, batch) for name, metric in self.metrics().items()}

    def metric_merge(self, a: MetricState, b: MetricState) -> MetricState:
        """The state of the images of both, on the host."""
        return {name: metric.merge(a[name], b[name]) for name, metric in self.metrics().items()}

    def metric_result(self, state: MetricState) -> dict[str, float | list]:
        """Scores of a state, flat. A score that does not exist (a class never seen) is NaN."""
        return {
            key: value for name, metric in self.metrics().items() for key, value in metric.result(state[name]).items()
        }
