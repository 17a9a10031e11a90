"""The one place that makes a device mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh

from segjax.core.errors import ConfigError

DATA, FSDP, SPATIAL = "data", "fsdp", "spatial"
AXES = (DATA, FSDP, SPATIAL)


def make_mesh(data: int = -1, spatial: int = 1, fsdp: int = 1, *, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with axes `data` (batch), `fsdp` (batch, and the parameters are split) and `spatial` (image height).

    `spatial` varies fastest, so that the devices that exchange image rows are neighbours of one process. All axes are
    of type Auto: `jax.make_mesh` alone gives Explicit ones, under which bincount, reshapes and slices of sharded
    arrays fail.

    Args:
      data: devices along the batch; -1 takes all that the other axes leave.
      spatial: devices along the image height.
      fsdp: devices the parameters are split over.
      devices: default `jax.devices()`.

    Raises:
      ConfigError: where the axes do not multiply to the number of devices, or one image would span two processes.
    """
    devices = list(jax.devices() if devices is None else devices)
    inner = spatial * fsdp
    if data == -1:
        if len(devices) % inner:
            raise ConfigError(
                f"config.parallel: spatial={spatial} times fsdp={fsdp} does not divide the {len(devices)} devices; "
                "choose factors of that number."
            )
        data = len(devices) // inner
    if data * inner != len(devices):
        raise ConfigError(
            f"config.parallel: data={data} x fsdp={fsdp} x spatial={spatial} needs {data * inner} devices, there are "
            f"{len(devices)}; set data to -1 to use them all."
        )
    local = len(devices) // jax.process_count()
    if local % spatial:
        raise ConfigError(
            f"config.parallel.spatial: {spatial} does not divide the {local} devices of a process, and the host that "
            "decodes an image must hold all of its rows; choose a factor of that number."
        )
    return jax.make_mesh((data, fsdp, spatial), AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is split; batch sizes must be a multiple of it."""
    return math.prod(mesh.shape[axis] for axis in (DATA, FSDP))
