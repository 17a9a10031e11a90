"""Every formulation of segjax.ops.formulation against XLA's own, over sizes: what its table is filled from.

    python benchmarks/formulations.py [--only depthwise winograd] [--rounds 9] [--seconds 3]

Runs on whatever device jax finds; forward + backward in float32. The two take turns in one process; medians. Prints a
table, writes results/formulations_DEVICE.json: native / other, above 1 where the other formulation is faster, and the
same of the seconds to compile. `--only` measures some again, keeps the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from ops import commit, jax_arm, measure

from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulations

# name -> (operation, the other formulation, cases of (image, kernel, window))
CASES = {
    "pointwise": ("pointwise", "dot", [((2, 90, 120, c), (1, 1, c, c), {}) for c in (16, 32, 64, 128, 256)]),
    "depthwise": (
        "depthwise",
        "shift",
        [((1, 90, 120, 64), (k, k, 1, 64), {"groups": 64}) for k in (3, 5, 7, 9, 13)],
    ),
    "grouped": ("grouped", "split", [((1, 90, 120, 64), (3, 3, 64 // g, 64), {"groups": g}) for g in (2, 8, 32)]),
    "atrous": (
        "unstrided",
        "crop",
        [((1, 45, 60, c), (3, 3, c, c), {"rate": r}) for c in (64, 128, 256) for r in (2, 6, 12, 24)]
        + [((2, 32, 32, c), (3, 3, c, 512), {}) for c in (512, 2048, 4096)]
        + [((2, 16, 16, 1024), (3, 3, 1024, 1024), {})],
    ),
    "winograd": (
        "unstrided",
        "winograd",
        [((2, n, n, c), (3, 3, c, c), {}) for n, c in ((256, 64), (128, 64), (128, 128), (64, 96), (64, 256))]
        + [((2, n, n, c), (3, 3, c, c), {}) for n, c in ((32, 192), (32, 512), (16, 512), (16, 1024))]
        + [((2, 64, 64, c), (3, 3, c, f), {}) for c, f in ((720, 512), (256, 48))]
        + [((2, 32, 32, c), (3, 3, c, c), {"rate": r}) for c, r in ((256, 2), (512, 4), (256, 6))]
        + [((2, 64, 64, c), (3, 1, c, c), {}) for c in (64, 128)],
    ),
    "long_rows": (
        "unstrided",
        "long_rows",
        [((2, 64, 64, 64), (*taps, 64, 64), {}) for taps in ((3, 1), (1, 3))]
        + [((2, 32, 32, 128), (*taps, 128, 128), {"rate": r}) for taps in ((3, 1), (1, 3)) for r in (1, 16)]
        + [((2, 128, 128, 16), (*taps, 16, 16), {}) for taps in ((3, 1), (1, 3))]
        + [((2, 32, 32, 32), (*taps, 32, 32), {}) for taps in ((5, 1), (1, 5))]
        + [((2, n, n, c), (1, 1, c, f), {}) for n, c, f in ((32, 32, 128), (64, 64, 16), (256, 64, 19))],
    ),
    "kernel_gradient": (
        "kernel_gradient",
        "products",
        [((2, n, n, c), (3, 3, c, c), {}) for c in (16, 64, 128, 256) for n in (32, 128)]
        + [((2, 64, 64, c), (3, 3, c, f), {}) for c, f in ((64, 16), (256, 16), (1024, 16), (64, 128), (128, 64))]
        + [((2, 64, 64, c), (3, 1, c, c), {}) for c in (16, 64, 128)]
        + [((2, 64, 64, c), (1, 1, c, f), {}) for c, f in ((16, 16), (64, 16), (16, 64))]
        + [((2, 64, 64, c), (3, 3, c, 2 * c), {"stride": 2}) for c in (16, 128)]
        + [((2, 64, 64, 32), (5, 1, 32, 32), {}), ((2, 256, 256, 3), (3, 3, 3, 64), {})],
    ),
    "kernel_gradient by Winograd": (
        "kernel_gradient",
        "winograd",
        [((2, n, n, c), (3, 3, c, c), {}) for n, c in ((256, 64), (128, 16), (128, 32), (128, 128), (64, 32))]
        + [((2, n, n, c), (3, 3, c, c), {}) for n, c in ((64, 256), (32, 96), (32, 512), (16, 512))]
        + [((2, 64, 64, c), (3, 3, c, f), {}) for c, f in ((128, 64), (256, 48), (256, 16))]
        + [((2, 32, 32, 256), (3, 3, 256, 256), {"rate": 2}), ((2, 64, 64, 64), (3, 1, 64, 64), {})],
    ),
    "stem": (
        "stem",
        "space_to_depth",
        [((1, 256, 256, 3), (k, k, 3, 64), {"stride": 2}) for k in (3, 7)],
    ),
}


def run_case(operation: str, other: str, image, kernel, window, args) -> dict:
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (image, kernel)]

    def convolve(x, k):
        return conv2d(x, k, **window)

    cotangent = jnp.asarray(rng.normal(size=jax.eval_shape(convolve, *arrays).shape), jnp.float32)
    arms, compile_seconds = {}, {}
    for name in ("native", other):
        with formulations(**{operation: name}):
            start = time.perf_counter()
            # A function of its own: jax would find the first one's trace again.
            arms[name] = jax_arm(lambda x, k: convolve(x, k), arrays, cotangent)
            compile_seconds[name] = time.perf_counter() - start
    taken = {name: statistics.median(series) for name, series in measure(arms, args.rounds, args.seconds).items()}
    return {
        "image": image,
        "kernel": kernel,
        **window,
        "ms": {name: round(value, 3) for name, value in taken.items()},
        f"native / {other}": round(taken["native"] / taken[other], 2),
        f"compile: native / {other}": round(compile_seconds["native"] / compile_seconds[other], 2),
        "compile seconds": {name: round(value, 2) for name, value in compile_seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time every formulation.")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=CASES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0, help="for the rounds of one case")
    args = parser.parse_args()
    device = jax.devices()[0]
    path = pathlib.Path(__file__).parent / "results" / f"formulations_{device.platform}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    for name, (operation, other, cases) in CASES.items():
        if name in args.only:
            load = round(os.getloadavg()[0], 1)
            results = [run_case(operation, other, *case, args) for case in cases]
            record[name] = {
                "cases": results,
                "command": " ".join(["python", "benchmarks/formulations.py", *sys.argv[1:]]),
                "device": platform.machine() if device.platform == "cpu" else device.device_kind,
                "threads": len(os.sched_getaffinity(0)),
                "load before": load,
                "jax": jax.__version__,
                "commit": commit(),
            }
            for result in results:
                sizes = {key: result[key] for key in ("image", "kernel", "rate", "stride") if key in result}
                print(f"{name:10} {other:15} {result[f'native / {other}']:7.2f}  {sizes}", flush=True)
            path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
