"""Train steps on a CPU with freed memory kept (`segjax.core.host_memory`) and given back to the system.

    python benchmarks/host_memory.py [NAME ...] [--calls 15] [--rounds 3]

Each round starts a process an arm, in turns, because what is kept cannot be given back. Writes
results/host_memory_cpu.json: medians over the rounds of each process's median seconds and page faults a step and of
its largest memory, and the ratio returned / kept of the seconds (above 1: keeping is faster).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from subjects import add_input_arguments, train_step
from turns import circumstances

from segjax.core.host_memory import keep_freed_memory

PATH = pathlib.Path(__file__).parent / "results" / "host_memory_cpu.json"


def steps(name: str, args: argparse.Namespace) -> dict[str, float]:
    """Medians of this process's steps."""
    if args.arm == "kept" and not keep_freed_memory():
        raise SystemExit("needs glibc, and no malloc setting in the environment")
    step, _ = train_step(name, args)
    step(), step()
    seconds, faults = [], []
    for _ in range(args.calls):
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(seconds), "faults": statistics.median(faults), "peak MiB": peak / 1024}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one network."""
    load, told = os.getloadavg()[0], {"kept": [], "returned": []}
    size = "x".join(map(str, args.size))
    for turn in range(args.rounds):
        for arm in sorted(told, reverse=bool(turn % 2)):
            command = [sys.executable, __file__, name, f"--arm={arm}", f"--calls={args.calls}", f"--size={size}"]
            command += [f"--batch={args.batch}", f"--dtype={args.dtype}"]
            told[arm].append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
    middle = {arm: {key: statistics.median(one[key] for one in all_) for key in all_[0]} for arm, all_ in told.items()}
    return {
        **middle,
        "returned / kept": middle["returned"]["seconds"] / middle["kept"]["seconds"],
        "rounds": args.rounds,
        "load before": round(load, 1),
        **circumstances(args),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Freed memory kept or given back.")
    parser.add_argument("names", nargs="*", default=["erfnet", "deeplabv3plus/resnet50", "unet"])
    parser.add_argument("--calls", type=int, default=15, help="steps timed in each process")
    parser.add_argument("--rounds", type=int, default=3, help="processes an arm")
    parser.add_argument("--arm", choices=("kept", "returned"), help="time one, here, and print it")
    add_input_arguments(parser)
    args = parser.parse_args()

    if args.arm:
        print(json.dumps(steps(args.names[0], args)))
        return
    records = json.loads(PATH.read_text()) if PATH.exists() else {}
    for name in args.names:
        records[name] = measure(name, args)
        print(f"{name}: {records[name]['returned / kept']:.2f}", flush=True)
        PATH.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
