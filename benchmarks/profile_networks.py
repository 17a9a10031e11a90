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
from against_torch import add_input_arguments, noise, segjax_infer, segjax_train

from segjax.inference.provenance import provenance

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
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()

    path = RESULTS / f"profile_networks_{jax.default_backend()}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    images, labels = noise(args)
    for name in args.names:
        for mode in args.mode:
            ours = segjax_train(name, images, labels, args.dtype) if mode == "train" else None
            call, _ = ours or segjax_infer(name, images, args.dtype)
            spent = profiled(call)
            kinds: collections.Counter[str] = collections.Counter()
            for instruction, time in spent.items():
                kinds[re.sub(r"[.\d]+$", "", instruction)] += time
            record = {
                "unit": "ms a call",
                "all": round(sum(spent.values()) / 1e3, 2),
                "by kind": {kind: round(time / 1e3, 2) for kind, time in kinds.most_common(SHOWN)},
                "dearest": {one: round(time / 1e3, 2) for one, time in spent.most_common(SHOWN)},
                "size": list(args.size),
                "batch": args.batch,
                **provenance(),
            }
            print(name, mode, json.dumps({key: record[key] for key in ("all", "by kind", "dearest")}, indent=1))
            records.setdefault(name, {})[mode] = record
            if args.write:
                path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
