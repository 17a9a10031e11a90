"""Train steps of the networks of `rivals/`, compiled ahead of time for TPUs that are not there, and their roofline.

    pip install 'segjax[plan]'
    python benchmarks/ahead_of_time.py [NAME ...] [--topology v5e:2x2] [--per-chip 8] [--markdown]

Each is `segjax plan` of Cityscapes' PSPNet recipe (SGD, augmentation on the device, bfloat16) with another network and
windows of 512x512. Predictions of a compiler and of stated peaks: nothing here has run on the chips named.

Writes results/ahead_of_time_CHIP.json, network by network, keeping what was compiled before.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from rivals import RIVALS

HERE = pathlib.Path(__file__).parent
CONFIG = "configs/cityscapes/pspnet.py"


def arguments(name: str, topology: str, per_chip: int) -> list[str]:
    """What `segjax` is called with."""
    chips = math.prod(int(side) for side in topology.partition(":")[2].split("x"))
    return [
        "plan",
        f"--config={CONFIG}",
        "--classes=19",
        f"--topology={topology}",
        f"--config.model.name={name}",
        "--config.data.crop_size=(512,512)",
        f"--config.train.batch_size={chips * per_chip}",
        "--no-search",
    ]


def compiled(name: str, topology: str, per_chip: int) -> dict[str, Any]:
    """What is kept of one plan, made here."""
    given = arguments(name, topology, per_chip)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "segjax.cli.main", *given, f"--output={folder}"]
        ended = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.DEVNULL, check=False)
        if ended.returncode:
            raise SystemExit(f"{name}: segjax plan ended with {ended.returncode}; 1: try a smaller --per-chip")
        plan = json.loads((pathlib.Path(folder) / "plan.json").read_text())
    return {"command": " ".join(["segjax", *given]), **kept(plan)}


def kept(plan: dict[str, Any]) -> dict[str, Any]:
    """Of plan.json, what a table of networks needs."""
    timing = plan["timing"]
    return {
        "topology": plan["topology"],
        "batch_per_device": plan["batch_per_device"],
        "memory_needed": plan["memory"]["needed"],
        "memory_available": plan["memory"]["available"],
        "work": plan["work"],
        "estimators": {one["name"]: one["seconds"] for one in timing["estimators"]},
        "exchange_seconds": timing["exchange_seconds"],
        "seconds": timing["seconds"],
        "mfu": timing["mfu"],
        "images_per_second_per_chip": timing["images_per_second_per_chip"],
        "dearest": plan["operations"][:3],
        "compile_cpu_seconds": plan["seconds"]["all_cpu"],
        "versions": plan["versions"],
        "commit": plan["commit"],
        "time": plan["time"],
    }


def markdown(networks: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    rows = ["| network | images a chip | TFLOP | GB | arithmetic, ms | traffic, ms | step, ms | MFU | GiB |"]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for name, one in networks.items():
        work, times = one["work"], one["estimators"]
        low, high = one["seconds"]
        cells = [
            f"`{name}`",
            f"{one['batch_per_device']:g}",
            f"{work['device_flops'] / 1e12:.2f}",
            f"{work['device_bytes'] / 1e9:.1f}",
            f"{1e3 * times['arithmetic']:.0f}",
            f"{1e3 * times['traffic']:.0f}",
            f"{1e3 * low:.0f} to {1e3 * high:.0f}",
            f"{one['mfu'][0]:.0%} to {one['mfu'][1]:.0%}",
            f"{one['memory_needed'] / 2**30:.1f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Nine train steps, compiled ahead of time.")
    parser.add_argument("names", nargs="*", help="networks; default all")
    parser.add_argument("--topology", default="v5e:2x2", help="as `segjax plan` takes it")
    parser.add_argument("--per-chip", type=int, default=8, help="images")
    parser.add_argument("--markdown", action="store_true", help="print the table of what was compiled")
    args = parser.parse_args()

    path = HERE / "results" / f"ahead_of_time_{args.topology.partition(':')[0]}.json"
    networks = json.loads(path.read_text()) if path.exists() else {}
    if args.markdown:
        print(markdown(networks))
        return
    for name in set(args.names) - set(RIVALS):
        parser.error(f"{name}: not one of {', '.join(RIVALS)}")
    for name in args.names or RIVALS:
        networks[name] = compiled(name, args.topology, args.per_chip)
        print(f"{name:24} {networks[name]['seconds']}", file=sys.stderr, flush=True)
        ordered = {known: networks[known] for known in RIVALS if known in networks}
        path.write_text(json.dumps(ordered, indent=1) + "\n")


if __name__ == "__main__":
    main()
