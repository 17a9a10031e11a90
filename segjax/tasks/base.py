"""What the trainer and the evaluation ask of a task, and all they know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax

Batch = Mapping[str, jax.Array]
Outputs = Mapping[str, Any]
MetricState = dict[str, Any]


class Task(Protocol):
    """Losses and metrics of one kind of segmentation.

    Losses are sums over a fixed normaliser, metrics are sums: micro-batches, devices and hosts add up, and where the
    batch is cut changes nothing.
    """

    def loss_weight(self, batch: Batch) -> jax.Array:
        """The normaliser of a whole batch, float32 scalar, from the labels alone; jittable."""
        ...

    def loss(self, outputs: Outputs, batch: Batch, weight: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """This part of the batch's share of the loss; jittable.

        Args:
          outputs: what the network returned for this part.
          batch: the part.
          weight: `loss_weight` of the whole batch. Shares of all parts add up to the loss of the whole.

        Returns:
          The share, float32 scalar, and named shares for the log, `loss` (the same number) among them.
        """
        ...

    def metric_init(self) -> MetricState:
        """The state before any image, numpy arrays."""
        ...

    def metric_update(self, predictions: jax.Array, batch: Batch) -> MetricState:
        """The sums of one batch, on the device; jittable. Not added to a state: see `metric_merge`."""
        ...

    def metric_merge(self, a: MetricState, b: MetricState) -> MetricState:
        """Adds two states on the host, in int64 and float64."""
        ...

    def metric_result(self, state: MetricState) -> dict[str, float | list]:
        """Scores of a state, flat. A score that does not exist (a class never seen) is NaN."""
        ...
