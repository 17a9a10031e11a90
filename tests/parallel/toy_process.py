"""One process of a toy run, started by a launcher: `toy_process.py WORKDIR STEPS [fail|wide] [--resume]`.

With `fail`, process 1 meets a damaged file at step 5. With `wide`, a parameter is split over all devices. See
test_two_processes.py and tests/launch/test_slurm.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from segjax.cli.runtime import join
from segjax.core.config import Parallel
from segjax.core.errors import EXIT_RESUME, DataError

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform

from segjax.parallel.mesh import AXES
from segjax.parallel.transfer import local_rows, to_global
from segjax.training.loop import train

workdir, steps = sys.argv[1], int(sys.argv[2])
settings = config(
    optim={"name": "sgd", "learning_rate": 0.1},
    train={"log_every": 1, "eval_every": steps},
    checkpoint={"every": max(2, steps // 4)},
    schedule={"name": "constant"},
    parallel={"heartbeat": 4.0, "join_timeout": 120.0},
)


class Share(Stream):
    """This process's share of each batch; the place in the stream is the same in all."""

    def __next__(self):
        if "fail" in sys.argv and self.position == 4 and jax.process_index() == 1:
            raise DataError("a.png: truncated")
        batch, share = super().__next__(), self.batch_size // jax.process_count()
        mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        return {key: value[mine] for key, value in batch.items()}


def check_rows() -> None:
    """Each device gets its rows of a batch also where the processes' devices alternate along it, as a pod's may."""
    each = jax.local_device_count()
    order = [device for first in range(each) for device in jax.devices()[first::each]][::-1]
    mesh = _mesh(order, (len(order), 1, 1))
    rows = local_rows(8, mesh)
    assert len(rows) == 8 // jax.process_count()
    (spread,) = to_global({"row": np.asarray(rows)}, mesh).values()
    for shard in spread.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.arange(8)[shard.index])
    if each == 2:  # the wiring may also put one image's rows on two processes: both read it
        mesh = _mesh(order, (len(order) // 2, 1, 2))
        pixels = np.arange(8 * 4 * 3).reshape(8, 4, 3)
        (spread,) = to_global({"image": pixels[local_rows(8, mesh)]}, mesh).values()
        for shard in spread.addressable_shards:
            np.testing.assert_array_equal(shard.data, pixels[shard.index])


def _mesh(devices: list[jax.Device], shape: tuple[int, int, int]) -> Mesh:
    """In this very order; jax.make_mesh keeps a CPU process's devices together."""
    return Mesh(np.asarray(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * 3)


with join(argparse.Namespace(coordinator=None, num_processes=None, process_id=None), settings.parallel) as watchdog:
    check_rows()
    wide = "wide" in sys.argv
    if wide:
        settings = dataclasses.replace(settings, parallel=Parallel(fsdp=jax.device_count()))
    result = train(
        settings,
        model=ToyNet(features=4096 if wide else 4),
        task=ToyTask(),
        transform=transform,
        batches=Share(),
        info=INFO,
        steps=steps,
        workdir=workdir,
        resume="--resume" in sys.argv,
        watchdog=watchdog,
    )
    if wide:
        kernel = result.state.params["stem"]["kernel"]
        print("kernel", kernel.shape, "a device", kernel.addressable_shards[0].data.shape, flush=True)
sys.exit(0 if result.interrupted is None else EXIT_RESUME)
