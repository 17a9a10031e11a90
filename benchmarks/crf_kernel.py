"""The exact filter's Pallas kernels: timed on a GPU or TPU, or compiled for one that is not there.

    python benchmarks/crf_kernel.py time [--rounds 9]
    python benchmarks/crf_kernel.py compile --platform tpu [--topology v5e:2x2]
    python benchmarks/crf_kernel.py compile --platform cuda

21 labels, five features, a 500 x 375 image and half of it. `time` lets the kernel and `exact_filter` take turns in one
process, medians, forward and with both gradients; it gives the kernel's error against float64 at the bandwidths in use,
and what fraction of the time the floor is: the larger of all exponentials at the machine's rate and all products at its
bfloat16 peak. Both are stated rates, from the table below, not measured ones. Results:
benchmarks/results/crf_kernel_DEVICE.json.

`compile` needs libtpu (pip install "jax[tpu]") or jax-cuda13-plugin and jax-cuda13-pjrt, and no device. It adds to
benchmarks/results/crf_kernel_aot.json what the compiler predicts; nothing in there has run. For a TPU: the bundles
(instruction words, one a cycle) of each kernel's program, times the steps of its grid, over the clock; memory stalls
are not in it. For a GPU: registers and spills as `ptxas` tells, if it is on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

DUMP = tempfile.TemporaryDirectory()
if "compile" in sys.argv:  # what jax and libtpu read when they are imported
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={DUMP.name} --xla_jf_dump_llo_text=true",
    }
    if "cuda" in sys.argv:
        os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP.name}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

from segjax.ops.crf import exact_pallas  # noqa: E402
from segjax.ops.crf.all_pairs import all_pairs_filter  # noqa: E402
from segjax.ops.crf.exact import exact_filter  # noqa: E402
from segjax.ops.crf.features import bilateral_features  # noqa: E402
from segjax.planning.topology import open_topology  # noqa: E402

ROOT = pathlib.Path(__file__).parent
LABELS, FEATURES = 21, 5
SIZES = ((188, 250), (375, 500))
THETAS = ((80, 13), (67, 4), (160, 3))
# Device kind: exponentials a second, bfloat16 flop/s (data sheets, dense). NVIDIA: 16 a cycle and multiprocessor
# (CUDA programming guide, arithmetic instructions, 9.0), 132 of them at 1.98 GHz. TPU: 1024 a cycle, as the compiler's
# schedule has it, at a clock inferred from the peak.
RATES = {
    "H100": (4.18e12, 989e12),
    "H200": (4.18e12, 989e12),
    "TPU v5 lite": (1.54e12, 197e12),
    "TPU v6 lite": (1.79e12, 918e12),
}
CLOCK = {"TPU v5 lite": 1.5e9, "TPU v6 lite": 1.75e9}  # inferred
KERNELS = ("crf_filter_sums", "crf_feature_pull")


def scene(height: int, width: int, theta: tuple[float, float]) -> tuple[jax.Array, jax.Array]:
    """Features [1, N, 5] of a smooth, noisy image and marginals [1, N, 21]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([120 + 80 * np.sin(x / 40), 60 + 0.3 * y, 200 - 0.2 * x + 30 * (y > x)], -1)
    image = (smooth + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)
    marginals = jax.nn.softmax(jnp.asarray(rng.normal(0, 2, (1, height * width, LABELS)), jnp.float32))
    return bilateral_features(jnp.asarray(image[None]), *theta), marginals


def with_gradients(run: Callable[..., jax.Array]) -> Callable[..., tuple]:
    def both(features: jax.Array, values: jax.Array) -> tuple:
        out, pull = jax.vjp(run, features, values)
        return out, pull(values)

    return both


def measure(arms: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, in turns."""
    taken = {name: [] for name in arms}
    for run in arms.values():
        jax.block_until_ready(run())
    for i in range(rounds):
        names = list(arms)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            start = time.perf_counter()
            jax.block_until_ready(arms[name]())
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(times), 3) for name, times in taken.items()}


def error(features: jax.Array, values: jax.Array) -> float:
    """Largest difference of filtered means at some points from float64."""
    wide = jnp.concatenate([values, jnp.ones_like(values[..., :1])], 2)
    out = np.asarray(jax.jit(all_pairs_filter)(features, wide))[0]
    rows = np.random.default_rng(0).choice(len(out), 100, replace=False)
    f, v = np.asarray(features[0], np.float64), np.asarray(wide[0], np.float64)
    truth = np.stack([np.exp(-0.5 * ((f[i] - f) ** 2).sum(-1)) @ v for i in rows])
    return float(abs(out[rows, :-1] / out[rows, -1:] - truth[:, :-1] / truth[:, -1:]).max())


def time_kernels(args: argparse.Namespace) -> dict:
    kind = jax.devices()[0].device_kind
    if jax.default_backend() == "cpu":
        raise SystemExit("crf_kernel time: the kernels need a GPU or TPU, and jax sees a CPU; `compile` needs neither")
    rates = next((rates for name, rates in RATES.items() if name in kind), None)
    cases = {}
    for height, width in SIZES:
        features, values = scene(height, width, THETAS[0])
        runs = {"kernel": all_pairs_filter, "jnp": exact_filter}
        runs |= {f"{name}_with_gradients": with_gradients(run) for name, run in runs.items()}
        arms = {name: partial(jax.jit(run), features, values) for name, run in runs.items()}
        times = measure(arms, args.rounds)
        entry = {
            "ms": times,
            "jnp / kernel": round(times["jnp"] / times["kernel"], 2),
            "jnp / kernel, with gradients": round(times["jnp_with_gradients"] / times["kernel_with_gradients"], 2),
            "largest_error_of_means": {
                str(theta): float(f"{error(*scene(height, width, theta)):.1e}") for theta in THETAS
            },
        }
        if rates:
            pairs = (height * width) ** 2
            # Kernel and values in two parts each: four products a label.
            floor = {"exponentials": 1e3 * pairs / rates[0], "products": 1e3 * pairs * 8 * LABELS / rates[1]}
            entry["floor_ms_by_stated_rates"] = {name: round(t, 3) for name, t in floor.items()}
            entry["floor / kernel"] = round(max(floor.values()) / times["kernel"], 3)
        cases[f"{width} x {height}"] = entry
        print(json.dumps({f"{width} x {height}": entry}), flush=True)
    return {"kind": kind, "cases": cases}


def compile_kernels(args: argparse.Namespace) -> dict:
    device = open_topology(args.topology if args.platform == "tpu" else "cuda:h100:1").devices[0]
    height, width = SIZES[-1]
    here = NamedSharding(Mesh(np.array([device]), ("data",)), PartitionSpec())
    shapes = [jax.ShapeDtypeStruct((1, height * width, n), jnp.float32, sharding=here) for n in (FEATURES, LABELS)]
    traced = jax.jit(with_gradients(all_pairs_filter)).trace(*shapes)
    start = time.perf_counter()
    compiled = traced.lower(lowering_platforms=(args.platform,)).compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    sizes = {
        name: round(getattr(memory, f"{name}_size_in_bytes") / 2**20, 1) for name in ("argument", "output", "temp")
    }
    describe = bundles if args.platform == "tpu" else registers
    return {
        "kind": device.device_kind,
        "points": height * width,
        "program": "forward and both gradients",
        "compile_seconds": round(seconds, 1),
        "memory_mib": sizes,
        "kernels": {name: describe(name, height * width, device.device_kind) for name in KERNELS},
    }


def bundles(name: str, points: int, kind: str) -> dict:
    """From the compiler's table of slots in use, one row a bundle: cycles of one step of the grid, and of all."""
    tables = sorted(pathlib.Path(DUMP.name).glob(f"*{name}*final_hlo-static-per-bundle-utilization.txt"))
    lines = tables[-1].read_text().splitlines()
    units, slots = [x.strip() for x in lines[1].split(",")], [int(x) for x in lines[2].split()]
    rows = np.array([line.split() for line in lines[4:] if line], int)
    limits = exact_pallas._LIMITS["tpu"]
    steps = -(-points // limits.rows) * -(-points // limits.columns)
    full = dict(zip(units, rows.sum(0) / slots))
    return {
        "tile": [limits.rows, limits.columns],
        "grid_steps": steps,
        "bundles_a_step": len(rows),
        "bundles_a_step_were_one_unit_the_limit": {
            unit: round(float(full[unit])) for unit in ("VALU", "MXU", "EUP", "XLU")
        },
        "predicted_ms": round(1e3 * len(rows) * steps / CLOCK[kind], 1),
        "inferred_clock_ghz": CLOCK[kind] / 1e9,
    }


def registers(name: str, points: int, kind: str) -> dict | None:
    """ptxas on the kernel's PTX."""
    for path in pathlib.Path(DUMP.name).glob("*.ptx"):
        if f".entry {name}" not in path.read_text():
            continue
        command = ["ptxas", "-v", "-arch=sm_90a", str(path), "-o", os.devnull]
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        except FileNotFoundError:
            return None
        limits = exact_pallas._LIMITS["gpu"]
        return {
            "tile": [limits.rows, limits.columns],
            "registers_a_thread": int(re.search(r"Used (\d+) registers", told)[1]),
            "spilled_bytes": int(re.search(r"(\d+) bytes spill stores", told)[1]),
            "tensor_core_instructions": sorted(set(re.findall(r"wgmma\.mma_async\S+", path.read_text()))),
        }
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="The exact filter's kernels, on a device or compiled for one.")
    parser.add_argument("what", choices=("time", "compile"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--platform", choices=("tpu", "cuda"), default="tpu", help="to compile for")
    parser.add_argument("--topology", default="v5e:2x2", help="of TPUs; cuda is one H100")
    args = parser.parse_args()
    result = time_kernels(args) if args.what == "time" else compile_kernels(args)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    result = {
        "command": " ".join(["python", "benchmarks/crf_kernel.py", *sys.argv[1:]]),
        "host": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip() or "unknown",
        "jax": jax.__version__,
        **result,
    }
    if args.what == "time":
        path = ROOT / "results" / f"crf_kernel_{jax.default_backend()}.json"
    else:
        path = ROOT / "results" / "crf_kernel_aot.json"
        record = json.loads(path.read_text()) if path.exists() else {}
        note = "Compiler predictions. Nothing here has run on a TPU or GPU."
        result = {"note": note} | record | {result["kind"]: result}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
