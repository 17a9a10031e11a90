"""Dense CRFs on eight simulated devices, run in a process of its own by test_crf.py; prints one JSON record."""

from __future__ import annotations

import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from segjax.inference.predictor import Predictor  # noqa: E402
from segjax.nn.crf import CRFasRNN  # noqa: E402
from segjax.parallel.mesh import make_mesh  # noqa: E402
from segjax.parallel.sharding import batch_sharding  # noqa: E402
from segjax.tasks.semantic.config import CRF  # noqa: E402
from tests.inference.pixel_network import INFO, PixelNet, variables  # noqa: E402
from tests.ops.sharded_cases import collectives  # noqa: E402

rng = np.random.default_rng(0)
images = np.repeat(np.repeat(rng.integers(0, 256, (8, 4, 4, 3)), 4, 1), 4, 2) + rng.integers(-9, 10, (8, 16, 16, 3))
images = images.clip(0, 255).astype(np.uint8)
logits = rng.normal(0, 2, (8, 16, 16, 3)).astype(np.float32)
record: dict = {}

# --- Prediction: the same labels and probabilities, images of several sizes.
sizes = np.array([[16, 16], [9, 12], [16, 5], [0, 0]] * 2, np.int32)
settings = CRF(enabled=True, theta_alpha=10.0, theta_beta=20.0, w_bilateral=4.0, iterations=2)
one, eight = (
    Predictor(PixelNet(), variables(), INFO, crf=settings, mesh=mesh).score_batch(images, sizes)
    for mesh in (None, make_mesh())
)
record["labels"] = float(np.mean(np.asarray(one[0]) != np.asarray(eight[0])))
record["probabilities"] = float(np.abs(np.asarray(one[1]) - np.asarray(eight[1])).max())

# --- The layer: value and gradients, with and without rows split.
layer = CRFasRNN(theta_alpha=10.0, theta_beta=20.0, train_iterations=1, method="exact")
params = layer.init(jax.random.key(0), logits[:1], images[:1])


def loss(params, logits, images):
    out = layer.apply(params, logits, images, True)
    return -jnp.mean(jax.nn.log_softmax(out)[..., 1]), out


def run(mesh):
    split = batch_sharding(mesh, "image", logits.shape)
    step = jax.jit(jax.grad(loss, (0, 1), has_aux=True), in_shardings=(None, split, split))
    with jax.set_mesh(mesh):
        compiled = step.lower(params, logits, images).compile()
        return jax.tree.leaves(compiled(params, *jax.device_put((logits, images), split))), compiled.as_text()


plain, _ = run(make_mesh(devices=jax.devices()[:1]))
for name, axes in {"data 8": {}, "data 2 x fsdp 2 x spatial 2": {"fsdp": 2, "spatial": 2}}.items():
    found, program = run(make_mesh(**axes))
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(plain, found)]
    record[name] = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    if name == "data 8":
        record["collectives"] = sorted({kind for kind, _ in collectives(program)})
print(json.dumps(record))
