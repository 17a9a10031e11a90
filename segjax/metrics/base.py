"""What every metric is: a state that is counted on the device, merged on the host and turned into scores at the end.

Each array of a state is one of two kinds: a sum, which merging adds, or rows, which merging concatenates along the
first axis, without those that are padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np

State = dict[str, np.ndarray | jax.Array]
Batch = Mapping[str, jax.Array]


class Metric(Protocol):
    """A metric over many images.

    Merging is associative, and neither the division of the images into batches, devices and processes nor the order of
    merging changes the scores. Where a batch is sharded, the state of `update` has to be whole on every process before
    it is merged (`out_shardings` replicated), because sums are already those of the whole batch.
    """

    def init(self) -> State:
        """The state before any image, in NumPy."""
        ...

    def update(self, predictions: Any, batch: Batch) -> State:
        """The state of one batch, on the device; jittable, of shapes that depend on the shapes of the batch alone.

        It is not added to anything: see `merge`. Images that are not `valid` and pixels outside `size` count nowhere.
        """
        ...

    def merge(self, a: State, b: State) -> State:
        """The state of the images of both, on the host; each may come from `init`, `update` or `merge`."""
        ...

    def result(self, state: State) -> dict[str, float | list]:
        """Scores of a state on the host; NaN where a score does not exist."""
        ...


def add(a: State, b: State) -> State:
    """Adds two states of sums key by key, in int64 or float64; `merge` of metrics whose state is sums alone."""
    return {key: _wide(a[key]) + _wide(b[key]) for key in a}


def _wide(x: np.ndarray | jax.Array) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.float64 if x.dtype.kind == "f" else np.int64)
