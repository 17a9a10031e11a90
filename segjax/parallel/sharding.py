"""Which part of an array each device of the mesh holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.parallel.mesh import DATA, FSDP, SPATIAL

SMALLEST_SPLIT = 2**16
"""Parameters with fewer elements stay whole on every device: gathering them would cost more than they take."""


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that every device holds whole."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """The sharding of one array of a batch.

    The first axis is split over `data` and `fsdp`. Arrays of images and labels ([B, H, W, ...]) are also split along H
    over `spatial`, where H divides; where it does not, the devices of a spatial group hold the same rows, which is
    correct and saves nothing.
    """
    rows = SPATIAL if len(shape) >= 3 and shape[1] % mesh.shape[SPATIAL] == 0 else None
    return NamedSharding(mesh, P((DATA, FSDP), rows) if len(shape) > 1 else P((DATA, FSDP)))


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """Shardings of a pytree of parameters, optimiser moments or averages (arrays or their shapes), leaf by leaf.

    Whole on every device, unless the mesh has an `fsdp` axis: then the longest axis that divides is split over it, for
    leaves of at least `SMALLEST_SPLIT` elements. The rule sees shapes only, so moments lie where their parameters do.
    """
    parts = mesh.shape[FSDP]

    def place(leaf: Any) -> NamedSharding:
        if parts > 1 and leaf.size >= SMALLEST_SPLIT:
            divisible = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
            if divisible:
                longest = max(divisible, key=lambda axis: leaf.shape[axis])
                return NamedSharding(mesh, P(*[FSDP if axis == longest else None for axis in range(leaf.ndim)]))
        return replicated(mesh)

    return jax.tree.map(place, state)
