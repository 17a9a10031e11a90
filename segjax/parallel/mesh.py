"""The one place that makes a device mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
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
    local = len(devices) // len({device.process_index for device in devices})
    if local % spatial:
        raise ConfigError(
            f"config.parallel.spatial: {spatial} does not divide the {local} devices of a process, and the host that "
            "decodes an image must hold all of its rows; choose a factor of that number."
        )
    return Mesh(_arranged((data, fsdp, spatial), devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _arranged(shape: tuple[int, int, int], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices as an array [data, fsdp, spatial], along the machine's links where the axes allow it.

    On a torus of 4 x 4 chips jax would lay four parts of an image along a side, over two hosts: then, and where no axis
    fits the torus, devices stand in order of their processes, which keeps an image's parts in one.
    """
    try:
        found = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except NotImplementedError:
        found = None
    if found is not None and all(len({d.process_index for d in group}) == 1 for group in found.reshape(-1, shape[-1])):
        return found
    ordered = np.empty(len(devices), object)
    ordered[:] = sorted(devices, key=lambda device: device.process_index)
    return ordered.reshape(shape)


def line_mesh(axis: str, devices: Sequence[jax.Device]) -> Mesh:
    """All `devices` along one axis of type Auto."""
    return jax.make_mesh((len(devices),), (axis,), axis_types=(AxisType.Auto,), devices=list(devices))


def batch_shards(mesh: Mesh) -> int:
    """Into how many parts a batch is split; batch sizes must be a multiple of it."""
    return math.prod(mesh.shape[axis] for axis in (DATA, FSDP))
