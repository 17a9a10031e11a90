"""PointNet on a handful of ShapeNet's caps: five train it, eight score it; `configs/shapenet_part/pointnet.py:caps`.

    python benchmarks/pointnet_caps.py --root DATA [--seeds 0 1 2] [--work /tmp/pointnet_caps]

DATA holds shapenet_part_caps, val_NN.npz and test_NN.npz. Each seed trains in a process of its own; the last
checkpoint, none is chosen by its score, is scored on all points of the test caps, by the rules of the benchmark's
part_seg/test.py. The scores go into results/pointnet_caps.json.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time
from typing import Any

from segjax.inference.provenance import provenance

REPOSITORY = pathlib.Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results" / "pointnet_caps.json"
CONFIG = "configs/shapenet_part/pointnet.py:caps"
BAR = 0.75


def run(seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and scores with one seed; its part of the record."""
    workdir = args.work / f"seed{seed}"
    shutil.rmtree(workdir, ignore_errors=True)
    data = args.root / "shapenet_part_caps"
    asked = ["train", f"--config={CONFIG}", f"--config.data.root={data}", f"--config.seed={seed}"]
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "segjax.cli.main", *asked, f"--workdir={workdir}"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((workdir / "results.json").read_text())
    assert (result["split"], result["images"]) == ("test", 8), result["split"]
    return {
        "instance mIoU": result["metrics"]["instance_miou"],
        "by cap": {record["name"]: record["instance_miou"] for record in result["per_image"]},
        "step": result["step"],
        "parameters": result["parameters"],
        "minutes": (time.perf_counter() - began) / 60,
        "minutes of CPU time": (after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime) / 60,
        "command": "segjax " + " ".join(asked).replace(str(args.root), "DATA"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="PointNet on ShapeNet's caps.")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="holds shapenet_part_caps")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("/tmp/pointnet_caps"), help="for the runs")
    parser.add_argument("--note", default="", help="kept in the record: what else the machine did")
    args = parser.parse_args()
    seeds = {}
    for seed in args.seeds:
        seeds[str(seed)] = found = run(seed, args)
        print(f"seed {seed}: {found['instance mIoU']:.3f} in {found['minutes']:.1f} minutes", flush=True)
    scores = [found["instance mIoU"] for found in seeds.values()]
    record = {"instance mIoU, mean over seeds": sum(scores) / len(scores), "asked for": BAR, "seeds": seeds}
    record |= ({"note": args.note} if args.note else {}) | {k: v for k, v in provenance().items() if k != "command"}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
