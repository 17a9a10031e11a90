"""What an operation may know of the devices: the ambient mesh (`jax.set_mesh` around the step).

Networks need no argument for it, and stay free of meshes."""

from __future__ import annotations

import jax
from jax.sharding import AxisType

ROWS = "spatial"
"""The mesh axis that rows are split over (`segjax.parallel.mesh.SPATIAL`, which this room may not import)."""

BATCH = ("data", "fsdp")
"""The mesh axes that a batch is split over (`segjax.parallel.mesh`)."""


def row_shards() -> int:
    """Over how many devices the ambient mesh splits the rows of an image: 1 without a mesh, and inside a `shard_map`
    over rows, where an array is one device's part."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or ROWS not in mesh.axis_names:
        return 1
    kind = dict(zip(mesh.axis_names, mesh.axis_types))[ROWS]
    return mesh.shape[ROWS] if kind == AxisType.Auto else 1


def mapped_batch() -> tuple[str, ...]:
    """The axes of the batch along which an array is one device's part: inside `pmap` or a `shard_map` over the batch.

    Elsewhere arrays are global, and a mean over the batch is one over all devices' samples by itself.
    """
    mesh = jax.sharding.get_abstract_mesh()
    return () if mesh.empty else tuple(axis for axis in BATCH if axis in mesh.manual_axes)
