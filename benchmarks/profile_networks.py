"""Where a network's time goes on this device: the executed instructions of a step or a forward pass, by kind.

    python benchmarks/profile_networks.py NAME [NAME ...] [--mode train infer] [--write]

The programs are those of against_torch.py, at its default size; jax.profiler times each instruction over three calls.
Writes results/profile_networks_DEVICE.json: milliseconds a call by kind of instruction and by instruction, the dearest,
and their sum; instructions of several threads add up.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any

import jax
from subjects import add_input_arguments, inference, train_step
from turns import circumstances

from segjax.core.host_memory import keep_freed_memory

RESULTS = pathlib.Path(__file__).parent / "results"
CALLS, SHOWN = 3, 12


def profiled(call: Callable[[], Any]) -> collections.Counter[str]:
    """{instruction: microseconds} of one call, warm."""
    call(), call()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(CALLS):
                call()
        (path,) = pathlib.Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    spent: collections.Counter[str] = collections.Counter()
    for event in events:
        instruction = (event.get("args") or {}).get("hlo_op")
        if event.get("ph") == "X" and instruction:
            spent[instruction] += event["dur"] / CALLS
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description="Profile networks.")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--mode", nargs="+", choices=("train", "infer"), default=["infer"])
    add_input_arguments(parser)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    memory_kept = keep_freed_memory()

    path = RESULTS / f"profile_networks_{jax.default_backend()}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    for name in args.names:
        for mode in args.mode:
            call, _ = (train_step if mode == "train" else inference)(name, args)
            spent = profiled(call)
            kinds: collections.Counter[str] = collections.Counter()
            for instruction, time in spent.items():
                kinds[re.sub(r"[.\d]+$", "", instruction)] += time
            record = {
                "unit": "ms a call",
                "all": round(sum(spent.values()) / 1e3, 2),
                "by kind": {kind: round(time / 1e3, 2) for kind, time in kinds.most_common(SHOWN)},
                "dearest": {one: round(time / 1e3, 2) for one, time in spent.most_common(SHOWN)},
                "freed memory kept": memory_kept,
                **circumstances(args),
            }
            print(name, mode, json.dumps({key: record[key] for key in ("all", "by kind", "dearest")}, indent=1))
            records.setdefault(name, {})[mode] = record
            if args.write:
                path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
