"""Training steps of whole networks on meshes of eight simulated devices: run in a process of its own by
test_meshes.py, prints one JSON record of the differences from one device.

In float32 a ReLU whose input lies within rounding of 0 may open on one side only, which changes a gradient by far more
than rounding: the first step's comparison holds for this noise, not for any. The float64 steps tell right from wrong.

    python -m tests.parallel.training_on_meshes '{"unet/test": ["data 8", "pmap 8"]}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from segjax.core.config import from_dict
from segjax.core.registry import create_model
from segjax.core.schema import IMAGE, LABEL, VALID
from segjax.parallel import sharding
from segjax.parallel.mesh import make_mesh
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.program import make_program
from segjax.training.state import TrainState, init_state, init_variables

CLASSES, BATCH, STEPS = 5, 8, 20
MESHES: dict[str, dict[str, Any]] = {
    "data 8": {},
    "data 4 x spatial 2": {"spatial": 2},
    "data 2 x spatial 4": {"spatial": 4},
    "fsdp 8": {"fsdp": 8},
    "pmap 8": {"backend": "pmap"},
    "data 8, sums in float32": {"gradients": "float32"},
    "data 2, accumulation 4": {"data": 2},
}


def measure(name: str, chosen: Sequence[str]) -> dict[str, dict[str, float]]:
    """{mesh: {quantity: largest difference from one device, relative to the quantity's largest value}}."""
    model = create_model(name, CLASSES)
    stride = max(32, model.stride)
    size = (2 * stride, 2 * stride)
    variables = init_variables(model, 0, (*size, 3))
    record: dict[str, dict[str, float]] = {}
    references: dict[int, Any] = {}
    for mesh in chosen:
        accumulate = 4 if "accumulation" in mesh else 1
        # Micro-batches of two images would normalise the smallest maps over a few values, where rounding decides.
        batch = noise(accumulate * BATCH, size)
        if accumulate not in references:
            references[accumulate] = both({"data": 1}, accumulate, model, variables, batch)
        record[mesh] = differences(both(MESHES[mesh], accumulate, model, variables, batch), references[accumulate])
    return record


def noise(count: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, *size, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, (count, *size)).astype(np.uint8)
    labels[:3, :20] = 255  # devices do not hold equal numbers of labelled pixels
    return {IMAGE: images, LABEL: labels, VALID: np.ones(count, bool)}


def both(parallel: Mapping[str, Any], accumulate: int, model: Any, variables: Any, batch: Any) -> dict[str, Any]:
    """The first step's loss and gradients in float32; losses and parameters of `STEPS` steps in float64."""
    losses, state = run(parallel, accumulate, model, variables, batch, steps=1)
    found = {"first loss": losses, "first gradients": optax.tree.get(state.opt_state, "trace")}
    with jax.enable_x64(True):
        wide = jax.tree.map(np.float64, variables)
        losses, state = run(parallel, accumulate, model.clone(dtype=np.float64), wide, batch, steps=STEPS)
    return found | {"losses": losses, "parameters": state.params}


def run(
    parallel: Mapping[str, Any], accumulate: int, model: Any, variables: Any, batch: Any, *, steps: int
) -> tuple[np.ndarray, TrainState]:
    config = from_dict(
        {
            "parallel": parallel,
            "train": {"batch_size": len(batch[IMAGE]), "accumulate": accumulate},
            "optim": {"name": "sgd", "learning_rate": 0.01},  # its momentum is the gradient after the first step
            "schedule": {"name": "constant"},
        }
    )
    axes = {axis: parallel[axis] for axis in ("data", "spatial", "fsdp") if axis in parallel}
    mesh = make_mesh(**axes, devices=jax.devices()[: parallel.get("data", len(jax.devices()))])
    program = make_program(
        config, model=model, task=SemanticTask(CLASSES), transform=None, variables=variables, mesh=mesh, steps=steps
    )
    state = init_state(variables, program.tx, mesh, ema=False)
    losses = []
    with program.ambient(), nn.intercept_methods(without_dropout):
        arrays = program.put(batch)
        step = program.step.lower(state, arrays).compile()
        for _ in range(steps):
            state, metrics = step(state, arrays)
            losses.append(np.asarray(metrics["loss"]))
    return np.asarray(losses), jax.device_get(state)


def without_dropout(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Mapped devices draw other masks than a global batch would."""
    return args[0] if isinstance(context.module, nn.Dropout) else call(*args, **kwargs)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, float]:
    def relative(key: str) -> float:
        pairs = list(zip(jax.tree.leaves(a[key]), jax.tree.leaves(b[key])))
        return max(float(np.abs(x - y).max()) for x, y in pairs) / max(float(np.abs(y).max()) for _, y in pairs)

    return {key: relative(key) for key in b}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    sharding.SMALLEST_SPLIT = 16  # the networks' parameters are small
    print(json.dumps({name: measure(name, meshes) for name, meshes in json.loads(sys.argv[1]).items()}))
