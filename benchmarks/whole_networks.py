"""A formulation of `segjax.ops.formulation` in whole networks: the train step with the table's choices and without one.

    python benchmarks/whole_networks.py kernel_gradient [--networks enet erfnet ...] [--rounds 7] [--seconds 20]

Gains on single operations do not always carry over. The two programs take turns in one process, the order turned round
every round; medians. What a step frees is kept for the next, as under `segjax train`. Writes
results/whole_networks_DEVICE.json: seconds with the table, with that operation always XLA's own ("native"), their ratio
(above 1: the table's choice is faster), and the seconds to compile.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import jax
from subjects import add_input_arguments, train_step
from turns import add_turn_arguments, timed

from segjax.core.host_memory import keep_freed_memory
from segjax.ops.formulation import TABLE, formulations

RESULTS = pathlib.Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description="A formulation in whole networks.")
    parser.add_argument("operation", choices=sorted(TABLE["cpu"]))
    parser.add_argument("--networks", nargs="+", default=["unet", "enet", "erfnet", "deeplabv3plus/resnet50"])
    add_input_arguments(parser)
    add_turn_arguments(parser, rounds=7, seconds=20.0)
    args = parser.parse_args()
    memory_kept = keep_freed_memory()

    path = RESULTS / f"whole_networks_{jax.default_backend()}.json"
    records = json.loads(path.read_text()) if path.exists() else {}
    for name in args.networks:
        arms, compiling = {}, {}
        for arm, choice in (("table", {}), ("native", {args.operation: "native"})):
            with formulations(**choice):
                arms[arm], known = train_step(name, args)
            compiling[arm] = known["compile_seconds"]
            arms[arm]()
        record = timed(arms, args, memory_kept)
        record |= {"native / table": record["native"] / record["table"], "compile seconds": compiling}
        print(f"{args.operation} {name}: {record['native / table']:.2f}", flush=True)
        records.setdefault(args.operation, {})[name] = record
        path.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
