"""The step on each device's part of the batch: through `jax.pmap`, or through `jit` with the sums written out.

Under plain jit arrays are global and the compiler adds what devices must share. Here the step must know the axis
(`make_train_step(axis=...)`): it adds the loss's weight, the loss and the gradients over it; batch normalisation takes
the mean of its moments (`segjax.ops.ambient.mapped_batch`). Loss, gradients and statistics are then those of the global
batch all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.core.errors import ConfigError
from segjax.parallel.mesh import DATA, FSDP, SPATIAL, line_mesh
from segjax.parallel.transfer import numeric

AXIS = DATA


def check_unsplit(mesh: Mesh, axes: tuple[str, ...], key: str, value: str) -> None:
    """Raises ConfigError where the mesh splits something along `axes`, with which `key`, being `value`, cannot do."""
    for axis in axes:
        if mesh.shape[axis] > 1:
            raise ConfigError(
                f"config.parallel.{key}: {value} needs config.parallel.{axis}=1, and it is {mesh.shape[axis]}; set one "
                "of them back."
            )


def pmapped(step: Callable[[Any, Any], Any], mesh: Mesh) -> Any:
    """(state, batch of `to_replicas`) -> (state, metrics), both whole on every device; takes the state over.

    To be lowered and called without an ambient mesh: pmap has its own.

    Raises:
      ConfigError: where the mesh splits more than the batch.
    """
    check_unsplit(mesh, (SPATIAL, FSDP), "backend", "pmap")
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=list(mesh.devices.flat),
        donate_argnums=0,
    )


def over_batch(step: Callable[[Any, Any], Any], mesh: Mesh, gradients: str) -> Callable[[Any, Any], Any]:
    """The step as a function of global arrays, mapped over the axis `data`; image rows stay the compiler's to split.

    Raises:
      ConfigError: where parameters are split; for bfloat16 `gradients` and split rows on CPUs.
    """
    check_unsplit(mesh, (FSDP,), "gradients", gradients)
    axes = {AXIS}
    if mesh.shape[SPATIAL] == 1:
        axes = set(mesh.axis_names)
    elif gradients == "bfloat16" and mesh.devices.flat[0].platform == "cpu":
        # jax 0.10.2: "Invalid binary instruction opcode copy", and the process is gone.
        check_unsplit(mesh, (SPATIAL,), "gradients", "bfloat16, on CPUs,")
    # pmap's rule for the gradient of a sum over devices, by which each device's gradient is that of its own part.
    return jax.shard_map(step, mesh=mesh, in_specs=(P(), P(AXIS)), out_specs=P(), axis_names=axes, check_vma=False)


def to_replicas(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's share of a batch, [B, ...], as pmap takes it: global arrays [devices, B / devices, ...]."""
    devices, own = mesh.devices.flatten(), len(mesh.local_devices)
    sharding = NamedSharding(line_mesh(AXIS, devices), P(AXIS))

    def place(value: np.ndarray) -> jax.Array:
        parts = value.reshape(own, -1, *value.shape[1:])
        return jax.make_array_from_process_local_data(sharding, parts, (len(devices), *parts.shape[1:]))

    return {key: place(value) for key, value in numeric(batch).items()}
