"""From the host's numpy batch to arrays that span the mesh."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from segjax.core.errors import ConfigError
from segjax.core.schema import VALID
from segjax.parallel.mesh import batch_shards
from segjax.parallel.sharding import batch_sharding


def check_batch_size(batch_size: int, mesh: Mesh, *, accumulate: int = 1, key: str = "config.train.batch_size") -> None:
    """Raises ConfigError where a batch (over all processes) does not split evenly over devices and micro-batches."""
    unit = batch_shards(mesh) * accumulate
    if batch_size % unit:
        nearest = max(1, round(batch_size / unit)) * unit
        raise ConfigError(
            f"{key}: {batch_size} does not split over {batch_shards(mesh)} devices x {accumulate} micro-batches; "
            f"take a multiple of {unit}, such as {nearest}."
        )


def local_rows(batch_size: int, mesh: Mesh) -> list[int]:
    """Which samples of a batch this process's devices hold, in order: what it must read, and hand to `to_global`.

    A block of `batch_size / processes`, unless the mesh follows the wiring of a pod, where a process's devices need
    not be neighbours along the batch.
    """
    shards = batch_sharding(mesh, VALID, (batch_size,)).addressable_devices_indices_map((batch_size,))
    return sorted({row for (part,) in shards.values() for row in range(*part.indices(batch_size))})


def numeric(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The entries of a batch that devices can hold; file names and the like stay behind."""
    arrays = {key: np.asarray(value) for key, value in batch.items()}
    return {
        key: value for key, value in arrays.items() if value.dtype == bool or jnp.issubdtype(value.dtype, jnp.number)
    }


def to_global(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Hands this process's share of a batch to its devices; the copy is asynchronous.

    Args:
      batch: arrays whose first axis is this process's share of the batch. What is not `numeric` stays behind.
      mesh: the mesh of all processes.

    Returns:
      Global arrays, the first axis joined over the processes.
    """
    parts = batch_shards(mesh)
    here = len(local_rows(parts, mesh))  # of the parts: fewer than all, and shared where an image spans two processes
    return {
        key: jax.make_array_from_process_local_data(
            batch_sharding(mesh, key, value.shape), value, (value.shape[0] // here * parts, *value.shape[1:])
        )
        for key, value in numeric(batch).items()
    }
