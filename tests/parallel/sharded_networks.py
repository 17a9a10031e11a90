"""Whole networks on eight simulated devices, data 2 x spatial 4: run in a process of its own by test_networks.py,
prints one JSON record."""

from __future__ import annotations

import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.core.registry import create_model
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, LOGITS
from segjax.parallel.mesh import make_mesh
from segjax.parallel.sharding import batch_sharding
from segjax.training.state import init_variables
from tests.ops.sharded_cases import collectives

# 20 rows a device, 5 at stride 4 and 2.5 at stride 8: windows begin at other rows on each, and halos take several hops.
SIZE, CLASSES = (80, 48), 5


def measure(name: str) -> dict[str, Any]:
    """The largest errors of a training forward pass and its gradients relative to one device's, and the collectives."""
    model = create_model(name, CLASSES)
    size = SIZE if model.stride <= 16 else (5 * model.stride, 2 * model.stride)
    variables = init_variables(model, 0, (*size, 3))
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *size, 3)).astype(np.float32)
    cotangent = rng.normal(size=(4, *size, CLASSES)).astype(np.float32)

    def loss(params: Any, rest: Any, images: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, Any]:
        outputs, updated = model.apply(
            {"params": params, **rest}, images, train=True, mutable=list(rest), rngs={"dropout": jax.random.key(1)}
        )
        total = sum(jnp.mean(logits * cotangent) for logits in (outputs[LOGITS], *outputs.get(AUX_LOGITS, ())))
        if BORDER_LOGITS in outputs:
            total += jnp.mean(outputs[BORDER_LOGITS] * cotangent[..., :1])
        return total, (outputs[LOGITS], updated)

    def run(mesh: jax.sharding.Mesh) -> tuple[Any, str]:
        whole, split = NamedSharding(mesh, P()), batch_sharding(mesh, images.shape)
        rest = {key: value for key, value in variables.items() if key != "params"}
        arguments = (variables["params"], rest, images, cotangent)
        shardings = (whole, whole, split, split)
        step = jax.jit(jax.grad(loss, argnums=(0, 2), has_aux=True), in_shardings=shardings)
        with jax.set_mesh(mesh):
            compiled = step.lower(*arguments).compile()
            results = compiled(*jax.device_put(arguments, shardings))
        return jax.tree.map(lambda a: np.asarray(a, np.float64), results), compiled.as_text()

    one, _ = run(make_mesh(devices=jax.devices()[:1]))
    split, program = run(make_mesh(spatial=4))
    ((grads, dx), (logits, stats)), ((grads_1, dx_1), (logits_1, stats_1)) = split, one
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads_1))

    def both(a: Any, b: Any) -> zip:
        return zip(jax.tree.leaves(a), jax.tree.leaves(b))

    gathered = [size for kind, size in collectives(program) if kind not in ("all-reduce", "collective-permute")]
    return {
        "logits": _difference(logits, logits_1) / np.abs(logits_1).max(),
        "statistics": max(
            jax.tree.leaves(jax.tree.map(lambda a, b: _difference(a, b) / np.abs(b).max(), stats, stats_1))
        ),
        "parameter gradients": max(_difference(a, b) for a, b in both(grads, grads_1)) / largest,
        "image gradient": _difference(dx, dx_1) / np.abs(dx_1).max(),
        "gathered": max(gathered, default=0) / (images.size / 2),  # of the two images that four devices share
        "sent": sum(kind == "collective-permute" for kind, _ in collectives(program)),
    }


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    print(json.dumps({name: measure(name) for name in sys.argv[1:]}))
