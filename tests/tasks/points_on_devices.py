"""Train steps of the task `points` on meshes of four simulated devices: run in a process of its own by
test_points_on_devices.py, prints one JSON record of the differences from one device, in float64.

    python -m tests.tasks.points_on_devices
"""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import optax

from segjax.core.config import from_dict
from segjax.core.schema import CATEGORY, IGNORE, PART, POINT_VALID, POINTS, VALID
from segjax.data.clouds import dataset_info
from segjax.parallel import sharding
from segjax.parallel.mesh import make_mesh
from segjax.tasks import make_network, make_task
from segjax.training.program import make_program
from segjax.training.state import init_state, init_variables

CLOUDS, LENGTH = 8, 32
MESHES: dict[str, dict[str, Any]] = {
    "data 4": {"data": 4},
    "data 2 x fsdp 2": {"data": 2, "fsdp": 2},
    "pmap 4": {"data": 4, "backend": "pmap"},
}


def clouds(classes: int) -> dict[str, np.ndarray]:
    """Devices hold unequal numbers of valid points."""
    rng = np.random.default_rng(0)
    valid = np.arange(LENGTH) < np.array([32, 30, 9, 31, 20, 32, 14, 25])[:, None]
    part = rng.integers(0, classes, (CLOUDS, LENGTH))
    return {
        POINTS: rng.normal(size=(CLOUDS, LENGTH, 3)),
        POINT_VALID: valid,
        PART: np.where(valid, part, IGNORE).astype(np.int32),
        CATEGORY: rng.integers(0, 4, CLOUDS).astype(np.int32),
        VALID: np.ones(CLOUDS, bool),
    }


def step(parallel: dict[str, Any]) -> dict[str, Any]:
    """Loss, gradients and statistics of the first step."""
    config = from_dict(
        {
            "task": "points",
            "model": {"name": "pointnet/test"},
            "parallel": parallel,
            "train": {"batch_size": CLOUDS},
            "optim": {"name": "sgd", "learning_rate": 0.01},  # its momentum is the gradient after the first step
        }
    )
    info = dataset_info()
    task, model = make_task(config, info), make_network(config, info).clone(dtype=np.float64)
    data, fsdp = parallel["data"], parallel.get("fsdp", 1)
    mesh = make_mesh(data, fsdp=fsdp, devices=jax.devices()[: data * fsdp])
    variables = jax.tree.map(np.float64, init_variables(model, 0, (LENGTH, 3)))
    rng = np.random.default_rng(1)
    for name in ("input_transform", "feature_transform"):  # else nothing reaches what lies below them
        kernel = variables["params"][name]["matrix"]["kernel"]
        variables["params"][name]["matrix"]["kernel"] = 0.1 * rng.normal(size=kernel.shape)
    program = make_program(config, model=model, task=task, transform=None, variables=variables, mesh=mesh, steps=1)
    state = init_state(variables, program.tx, mesh, ema=False)
    with program.ambient():
        state, values = program.step(state, program.put(clouds(info.num_classes)))
    trace = optax.tree.get(state.opt_state, "trace")
    return jax.device_get({"loss": values["loss"], "gradients": trace, "statistics": state.model_state})


def main() -> None:
    with jax.enable_x64(True):
        expected = step({"data": 1})
        record = {}
        for name, parallel in MESHES.items():
            found = step(parallel)
            record[name] = {
                key: max(
                    float(np.abs(np.reshape(a, np.shape(b)) - b).max() / max(np.abs(b).max(), 1e-6))
                    for a, b in zip(jax.tree.leaves(found[key]), jax.tree.leaves(expected[key]), strict=True)
                )
                for key in expected
            }
    print(json.dumps(record))


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 4)
    sharding.SMALLEST_SPLIT = 16  # the network's parameters are small
    main()
