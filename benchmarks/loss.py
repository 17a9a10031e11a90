"""The loss of small logits at full size with its gradient: upsampled at once, and block of columns by block of columns.

    python benchmarks/loss.py time [--rounds 9]
    python benchmarks/loss.py compile [--topology v5e:2x2]

Float32 logits, one device's images, cross entropy: Cityscapes' 19 classes at stride 4, and 150, as ADE20K has them, at
stride 8. `time` lets both take turns in one process on this device; medians. `compile` needs libtpu
(pip install 'segjax[plan]') and no TPU; memory and cycles are what its compiler predicts. Results:
benchmarks/results/loss_DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

if "compile" in sys.argv:
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from segjax.inference.provenance import provenance
from segjax.losses.blocked import blocked_sums
from segjax.losses.cross_entropy import CrossEntropy
from segjax.ops.formulation import formulations
from segjax.ops.logits import Logits
from segjax.planning.hlo import parse
from segjax.planning.operations import price
from segjax.planning.topology import open_topology

RESULTS = pathlib.Path(__file__).parent / "results"
# images, rows and columns of the logits, classes, stride
CASES = {
    "accelerator": [(8, 128, 256, 19, 4), (8, 64, 64, 150, 8)],
    "cpu": [(2, 64, 128, 19, 4), (2, 32, 32, 150, 8)],
}


def arms(size: tuple[int, int]) -> dict[str, Callable]:
    """(logits, labels, valid) -> (loss, gradient), by name."""

    def at_once(logits, labels, valid):
        return CrossEntropy()(Logits(logits, size).upsample(), labels, valid)[0].sum()

    def in_columns(logits, labels, valid):
        return blocked_sums(CrossEntropy(), Logits(logits, size), labels, valid).sum()

    return {run.__name__: jax.jit(jax.value_and_grad(run)) for run in (at_once, in_columns)}


def shapes(images: int, rows: int, columns: int, classes: int, stride: int) -> list[jax.ShapeDtypeStruct]:
    full = (images, rows * stride, columns * stride)
    logits = jax.ShapeDtypeStruct((images, rows, columns, classes), jnp.float32)
    return [logits, jax.ShapeDtypeStruct(full, jnp.uint8), jax.ShapeDtypeStruct(full, jnp.bool_)]


def compiled(case: tuple[int, ...], topology) -> dict[str, dict[str, float]]:
    here = NamedSharding(Mesh(np.array(topology.devices[:1]), ("data",)), PartitionSpec())
    given = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for x in shapes(*case)]
    found = {}
    for name, run in arms(given[1].shape[1:]).items():
        with formulations(backend="tpu"):
            program = run.trace(*given).lower(lowering_platforms=("tpu",)).compile()
        cycles = price(parse(program.as_text()), topology.chip)[1]["cycles"]
        found[name] = {
            "temporaries_mib": round(program.memory_analysis().temp_size_in_bytes / 2**20, 1),
            "predicted_ms": round(1e3 * cycles / topology.chip.clock, 2),
        }
    return found


def timed(case: tuple[int, ...], rounds: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    logits, labels, valid = shapes(*case)
    given = [
        jnp.asarray(rng.normal(size=logits.shape), jnp.float32),
        jnp.asarray(rng.integers(0, case[3], labels.shape), jnp.uint8),
        jnp.ones(valid.shape, bool),
    ]
    runs = {name: run.lower(*given).compile() for name, run in arms(labels.shape[1:]).items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(*given))
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: {"ms": round(statistics.median(times[1:]), 2)} for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="The loss at full size, at once and in columns.")
    parser.add_argument("what", choices=("time", "compile"))
    parser.add_argument("--topology", default="v5e:2x2", help="as `segjax plan` takes it")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()

    if args.what == "compile":
        topology = open_topology(args.topology)
        device, measure = args.topology.partition(":")[0], lambda case: compiled(case, topology)
        cases = CASES["accelerator"]
    else:
        device, measure = jax.default_backend(), lambda case: timed(case, args.rounds)
        cases = CASES["cpu" if device == "cpu" else "accelerator"]
    record = {**provenance(), "cases": []}
    for case in cases:
        entry = {**dict(zip(("images", "rows", "columns", "classes", "stride"), case)), **measure(case)}
        unit = "predicted_ms" if args.what == "compile" else "ms"
        entry["at_once / in_columns"] = round(entry["at_once"][unit] / entry["in_columns"][unit], 2)
        record["cases"].append(entry)
        print(json.dumps(entry), flush=True)
    (RESULTS / f"loss_{device}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
