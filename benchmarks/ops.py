"""Forward + backward time of every operation of segjax.ops, against the plain flax or lax form and against PyTorch.

    python benchmarks/ops.py [--only bilinear] [--rounds 15] [--seconds 10] [--dtype bfloat16] [--batch 8]

Runs on whatever device jax finds (`--device` names one); PyTorch runs on the same, with as many threads, in both orders
of memory, and the faster counts. The arms of a case take turns in one process, in a random order every round;
medians. Prints a table, writes results/ops_DEVICE.json (_bfloat16 appended): milliseconds, and the ratios
naive / segjax and torch / segjax, above 1 where segjax is faster. `--only` measures some cases again, keeps the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from op_cases import CASES, Case

try:
    import torch
except ImportError:
    torch = None

RESULTS = pathlib.Path(__file__).parent / "results"


def jax_arm(fn: Callable, arrays: list[jax.Array], cotangent: jax.Array | None) -> Callable[[], object]:
    """One compiled call: the value alone without a cotangent, else the value and every gradient."""

    def both(cotangent, *arrays):
        value, pullback = jax.vjp(fn, *arrays)
        return value, pullback(cotangent)

    if cotangent is None:
        compiled = jax.jit(fn).lower(*arrays).compile()
        return lambda: jax.block_until_ready(compiled(*arrays))
    compiled = jax.jit(both).lower(cotangent, *arrays).compile()
    return lambda: jax.block_until_ready(compiled(cotangent, *arrays))


def torch_arm(case: Case, arrays: list[np.ndarray], cotangent: np.ndarray | None, args, channels_last: bool):
    """The same for PyTorch, NCHW by name, in either order of memory."""
    device = "cuda" if args.device == "gpu" else "cpu"
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kind = getattr(torch, args.dtype)

    def tensor(array: np.ndarray, axes: tuple[int, ...]) -> torch.Tensor:
        made = torch.tensor(array).permute(axes).to(device, kind)
        return made.contiguous(memory_format=layout) if made.ndim == 4 else made

    orders = [(0, 3, 1, 2), *case.torch_kernels]
    tensors = [tensor(array, order) for array, order in zip(arrays, orders)]
    outward = None if cotangent is None else tensor(cotangent, (0, 3, 1, 2))

    def run():
        if outward is None:
            with torch.no_grad():
                value = case.torch(*tensors)
        else:
            leaves = [t.detach().requires_grad_() for t in tensors]
            value = case.torch(*leaves)
            value.backward(outward)
        if device == "cuda":
            torch.cuda.synchronize()
        return value

    return run


def measure(arms: dict[str, Callable], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each arm, `rounds` times, fewer (but three) when `seconds` are over. Every round draws an order,
    because whichever follows PyTorch, whose threads still spin, looks slower."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    names, rng = list(arms), np.random.default_rng(0)
    for name in names:
        arms[name]()
    end = time.perf_counter() + seconds
    for turn in range(rounds):
        for name in rng.permutation(names):
            start = time.perf_counter()
            arms[name]()
            times[name].append((time.perf_counter() - start) * 1e3)
        if turn >= 2 and time.perf_counter() > end:
            break
    return times


def run_case(case: Case, args) -> dict:
    rng = np.random.default_rng(0)
    shapes = [(case.shapes[0][0] * args.batch, *case.shapes[0][1:]), *case.shapes[1:]]
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    ours = [jnp.asarray(array, args.dtype) for array in arrays]
    expected = jax.eval_shape(case.ours, *ours)
    cotangent = rng.normal(size=expected.shape).astype(np.float32)
    record = {"shapes": [list(shape) for shape in shapes], "difference": difference(case, ours)}
    for phase, outward in (("forward", None), ("train", cotangent)):
        g = None if outward is None else jnp.asarray(outward, args.dtype)
        arms = {"segjax": jax_arm(case.ours, ours, g), "naive": jax_arm(case.naive, ours, g)}
        if torch is not None and args.torch:
            arms["torch"] = torch_arm(case, arrays, outward, args, channels_last=False)
            arms["torch channels_last"] = torch_arm(case, arrays, outward, args, channels_last=True)
        times = measure(arms, args.rounds, args.seconds)
        taken = {name: statistics.median(series) for name, series in times.items()}
        ratios = {"naive / segjax": taken["naive"] / taken["segjax"]}
        if "torch" in taken:
            ratios["torch / segjax"] = min(taken["torch"], taken["torch channels_last"]) / taken["segjax"]
        record[phase] = {
            "ms": {name: round(value, 3) for name, value in taken.items()},
            "least ms": {name: round(min(series), 3) for name, series in times.items()},
            "rounds": len(times["segjax"]),
            "ratios": {name: round(value, 2) for name, value in ratios.items()},
        }
    return record


def difference(case: Case, arrays: list[jax.Array]) -> float | None:
    """Largest distance to the naive form, relative to the largest value; None where it computes something else."""
    if not case.same:
        return None
    ours, naive = (np.asarray(jax.jit(fn)(*arrays), np.float64) for fn in (case.ours, case.naive))
    return float(np.abs(ours - naive).max() / np.abs(naive).max())


def commit() -> str:
    """The commit of this checkout, `unknown` outside one."""
    here = pathlib.Path(__file__).parent
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here)
    return answer.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time every operation.")
    parser.add_argument("--only", default="", help="the case of this name, else those whose name holds it")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10.0, help="for the rounds of one case and direction")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=1, help="multiplies the images of every case")
    parser.add_argument("--device", default=jax.default_backend(), choices=("cpu", "gpu", "tpu"))
    parser.add_argument("--no-torch", dest="torch", action="store_false")
    args = parser.parse_args()

    jax.config.update("jax_default_device", jax.devices(args.device)[0])
    threads = len(os.sched_getaffinity(0))
    suffix = "" if args.dtype == "float32" else f"_{args.dtype}"
    path = RESULTS / f"ops_{args.device}{suffix}.json"
    versions = {"jax": jax.__version__}
    if torch is not None and args.torch:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        versions["torch"] = torch.__version__
    circumstances = {
        "command": " ".join(["python", "benchmarks/ops.py", *sys.argv[1:]]),
        "device": platform.machine() if args.device == "cpu" else jax.devices(args.device)[0].device_kind,
        "threads": threads,
        "commit": commit(),
        "versions": versions,
    }
    cases = json.loads(path.read_text())["cases"] if path.exists() else {}
    exact = args.only in {case.name for case in CASES}
    for case in CASES:
        if case.name == args.only if exact else args.only in case.name:
            load = round(os.getloadavg()[0], 1)
            record = run_case(case, args)
            cases[case.name] = {**record, "load before": load, **circumstances}
            print(f"{case.name:36}", *(f"{k} {v:7.2f}" for k, v in record["train"]["ratios"].items()), flush=True)
            ordered = {known.name: cases[known.name] for known in CASES if known.name in cases}
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps({"dtype": args.dtype, "unit": "ms, median", "cases": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
