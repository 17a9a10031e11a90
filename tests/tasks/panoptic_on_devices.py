"""Loss and predictions of the panoptic task with images split by rows over eight simulated devices; prints the largest
differences from one device as JSON. Run in a process of its own by test_panoptic.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parent))

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
from panoptic_scenes import INFO, batch_of, sample  # noqa: E402

from segjax.ops.logits import Logits  # noqa: E402
from segjax.parallel.mesh import make_mesh  # noqa: E402
from segjax.parallel.sharding import batch_sharding  # noqa: E402
from segjax.tasks.panoptic.targets import centers_of_mass, heatmap, offsets  # noqa: E402
from segjax.tasks.panoptic.task import PanopticTask  # noqa: E402

SIZE = (40, 48)
TASK = PanopticTask(INFO.num_classes, INFO.things, max_instances=60, sigma=2.0, small_area=100, stuff_area=5)


def example():
    """Four scenes, and the truth with noise as outputs."""
    batch = batch_of([sample(i, SIZE) for i in range(4)], TASK)
    rng, layer = np.random.default_rng(0), batch["instance"][..., 0]
    place = centers_of_mass(jnp.asarray(layer), 60).place
    outputs = {
        "logits": rng.normal(size=(4, *SIZE, INFO.num_classes))
        + 2 * (batch["label"][..., None] == np.arange(INFO.num_classes)),
        "center": rng.normal(size=(4, *SIZE, 1)) / 50
        + np.asarray(heatmap(place, batch["instance_valid"], SIZE, 2.0))[..., None],
        "offset": rng.normal(size=(4, *SIZE, 2)) + np.asarray(offsets(place, jnp.asarray(layer))),
    }
    return batch, outputs


def as_logits(outputs):
    return {key: Logits(value, value.shape[1:3]) for key, value in outputs.items()}


def run(mesh, batch, outputs):
    def both(outputs, batch):
        weights = TASK.weights(batch)
        slope = jax.value_and_grad(lambda o: TASK.loss(as_logits(o), batch, weights)[0])(outputs)
        return slope, weights, TASK.predict(as_logits(outputs), batch)

    rows = NamedSharding(mesh, P(("data", "fsdp"), "spatial"))
    placed = {key: jax.device_put(x, batch_sharding(mesh, key, x.shape)) for key, x in batch.items()}
    with jax.set_mesh(mesh):
        return jax.tree.map(np.asarray, jax.jit(both)(jax.device_put(outputs, rows), placed))


batch, outputs = example()
one = run(make_mesh(devices=jax.devices()[:1]), batch, outputs)
split = run(make_mesh(spatial=4), batch, outputs)
names = ("loss and gradient", "weights", "predictions")
record = {
    name: max(
        float(np.abs(np.float64(a) - np.float64(b)).max()) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y))
    )
    for name, x, y in zip(names, one, split)
}
print(json.dumps(record | {"segments": int(one[2]["segment_valid"].sum())}))
