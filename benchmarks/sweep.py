"""A sweep as one program against the same runs one after another, from the command line to the last score.

    python benchmarks/sweep.py [--config configs/sweeps/quickstart.py] [--rounds 3]

Both ways run in this one process, in turns whose order alternates, each from an empty compilation cache: starting eight
processes is not counted. Wall-clock and the CPU time of all threads; medians over the rounds. It compares what the runs
learnt, too. Kept in benchmarks/results/sweep_cpu.json after every round; the sweep's table in sweep_quickstart.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from segjax.cli.main import main
from segjax.inference.provenance import provenance
from segjax.sweep.variants import Variant, read_variants
from segjax.training.checkpoint import read_checkpoint
from segjax.training.writer import read_metrics

RESULTS = pathlib.Path(__file__).parent / "results"


def separate(config: str, variants: list[Variant], folder: pathlib.Path) -> None:
    """Every variant with `segjax train`, one after another."""
    for variant in variants:
        flags = [f"--config.{key}={value!r}" for key, value in variant.overrides.items()]
        assert main(["train", f"--config={config}", f"--workdir={folder}/runs/{variant.name}", *flags]) == 0


def together(config: str, variants: list[Variant], folder: pathlib.Path) -> None:
    """All of them as one program."""
    assert main(["sweep", f"--config={config}", f"--workdir={folder}", "--vmap"]) == 0


def measure(way, config: str, variants: list[Variant], folder: pathlib.Path) -> dict[str, float]:
    """Seconds of one way, and of its steps alone (those after the first log line, which compiled)."""
    os.environ["SEGJAX_CACHE"] = str(folder / "cache")
    compilation_cache.reset_cache()
    jax.clear_caches()
    wall, cpu = time.perf_counter(), time.process_time()
    with (folder / "log.txt").open("w") as log, contextlib.redirect_stdout(log):
        way(config, variants, folder)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    logs = [read_metrics(folder / "runs" / variant.name / "metrics.jsonl", "train") for variant in variants]
    steps = [statistics.median(record["step_seconds"] for record in log[1:]) for log in logs]
    return {"wall_seconds": wall, "cpu_seconds": cpu, "step_seconds": steps[0] if way is together else sum(steps)}


def difference(variants: list[Variant], one: pathlib.Path, other: pathlib.Path) -> dict[str, float]:
    """The largest difference of a parameter relative to its array's largest value, and of a test mIoU."""
    largest, scores = 0.0, 0.0
    for variant in variants:
        a, b = (root / "runs" / variant.name for root in (one, other))
        trees = (jax.tree.leaves(read_checkpoint(root, "last").variables["params"]) for root in (a, b))
        for x, y in zip(*trees, strict=True):
            largest = max(largest, float(np.abs(x - y).max() / (np.abs(y).max() + 1e-12)))
        found = (json.loads((root / "results.json").read_text())["metrics"]["miou"] for root in (a, b))
        scores = max(scores, abs(float(np.subtract(*found))))
    return {"parameters_relative": largest, "miou": scores}


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/sweeps/quickstart.py")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    variants = read_variants(args.config, {})
    measured: dict[str, list[dict[str, float]]] = {"separate": [], "together": []}
    for turn in range(args.rounds):
        with tempfile.TemporaryDirectory() as root:
            folders = {way.__name__: pathlib.Path(root) / way.__name__ for way in (separate, together)}
            for way in (separate, together)[:: 1 if turn % 2 == 0 else -1]:
                folder = folders[way.__name__]
                folder.mkdir()
                measured[way.__name__].append(measure(way, args.config, variants, folder))
                print(way.__name__, measured[way.__name__][-1], flush=True)
            apart = difference(variants, folders["separate"], folders["together"])
            table = json.loads((folders["together"] / "table.json").read_text())
        medians = {
            way: {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
            for way, rounds in measured.items()
        }
        record = {
            "config": args.config,
            "members": len(variants),
            "steps": variants[0].config.train.steps,
            "rounds": measured,
            "medians": medians,
            "ratio": {key: medians["together"][key] / medians["separate"][key] for key in medians["together"]},
            "difference": apart,
            "load": os.getloadavg()[0],
            **provenance(),
        }
        (RESULTS / "sweep_cpu.json").write_text(json.dumps(record, indent=1) + "\n")
        (RESULTS / "sweep_quickstart.json").write_text(
            json.dumps({"metric": table["metric"], "rows": table["rows"], **provenance()}, indent=1) + "\n"
        )
        print(record["ratio"], apart, flush=True)


if __name__ == "__main__":
    run()
