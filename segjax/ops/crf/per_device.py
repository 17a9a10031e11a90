"""A dense CRF on a mesh of devices: each refines its own images.

Left to itself XLA would gather the batch on every device, to sort the vertices of all its lattices together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segjax.ops.ambient import BATCH


def per_device(function: Callable[..., Any], *batched: jax.Array, whole: Any = ()) -> Any:
    """`function(*batched, whole)`, on each device of the ambient mesh for its share of the batch.

    Devices that share an image (its rows are split over them) each compute all of it. Where the batch does not divide,
    or there is no mesh, the function is called as it is.

    Args:
      function: returns array(s) whose first axis splits like the batch.
      batched: arrays [B, ...].
      whole: a pytree that every device holds whole; gradients to it are summed over the devices.
    """
    mesh = jax.sharding.get_abstract_mesh()
    automatic = not mesh.empty and set(mesh.axis_types) == {AxisType.Auto} and set(BATCH) <= set(mesh.axis_names)
    if not automatic or mesh.size == 1 or batched[0].shape[0] % math.prod(mesh.shape[axis] for axis in BATCH):
        return function(*batched, whole)
    # The check of what varies over devices does not know while_loop's carries.
    mapped = jax.shard_map(function, in_specs=(*[P(BATCH)] * len(batched), P()), out_specs=P(BATCH), check_vma=False)
    return jax.jit(mapped)(*batched, whole)
