"""The exact filter on eight simulated devices, data 2 x spatial 4: run in a process of its own by test_all_pairs.py,
prints one JSON record, case -> largest difference from one device, relative to the largest value."""

from __future__ import annotations

import json

import jax

jax.config.update("jax_num_cpu_devices", 8)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from segjax.ops.crf.all_pairs import all_pairs_filter  # noqa: E402
from segjax.parallel.mesh import DATA, make_mesh  # noqa: E402

POINTS = 70  # 18, 18, 18 and 16 a device


def value_and_gradients(features, values, weight, interpret):
    def total(features, values):
        out = all_pairs_filter(features, values, interpret=interpret)
        return jnp.vdot(out, weight), out

    (_, out), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(features, values)
    return out, *gradients


def main() -> None:
    mesh = make_mesh(data=2, spatial=4)
    rng = np.random.default_rng(0)
    run = jax.jit(value_and_gradients, static_argnums=3)
    record = {}
    for images in (2, 1):  # one image is on every device of the data axis
        arrays = [rng.normal(size=(images, POINTS, n)).astype(np.float32) for n in (3, 2, 2)]
        expected = run(*arrays, None)
        place = NamedSharding(mesh, P(DATA if images == 2 else None))
        with jax.set_mesh(mesh):
            for interpret in (None, "tpu", "gpu"):
                split = run(*[jax.device_put(x, place) for x in arrays], interpret)
                if images == 2:
                    assert split[0].sharding.spec[0] == DATA, split[0].sharding
                record[f"{images} {interpret}"] = max(
                    float(abs(np.asarray(a) - e).max() / abs(e).max()) for a, e in zip(split, map(np.asarray, expected))
                )
    print(json.dumps(record))


if __name__ == "__main__":
    main()
