"""From the command line to the end of the first training step, with an empty compilation cache and with a warm one.

    python benchmarks/first_step.py [--config configs/quickstart.py] [--rounds 3] [--write]

Each round starts `segjax train` twice with a new cache folder ($SEGJAX_CACHE) that the first start fills; a start is
stopped when its first step is in metrics.jsonl. Writes results/first_step_DEVICE.json: seconds of each, and the
medians' ratio second / first.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax

from segjax.inference.provenance import provenance

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def first_step(config: str, cache: pathlib.Path, patience: float = 900.0) -> float:
    """Seconds from the process's start to its first logged step.

    Raises:
      RuntimeError: the process ended before, or did not get there in `patience` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "run" / "metrics.jsonl"
        command = [sys.executable, "-m", "segjax.cli.main", "train", f"--config={config}"]
        command += [f"--workdir={log.parent}", "--config.train.log_every=1"]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "SEGJAX_CACHE": str(cache)}, stdout=subprocess.DEVNULL
        )
        try:
            while time.perf_counter() - began < patience:
                if log.exists() and '"train"' in log.read_text():
                    return time.perf_counter() - began
                if process.poll() is not None:
                    break
                time.sleep(0.05)
            raise RuntimeError(f"no step of {config} after {time.perf_counter() - began:.0f} s")
        finally:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to the first step.")
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    times: dict[str, list[float]] = {"first": [], "second": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for start in times:
                times[start].append(first_step(args.config, pathlib.Path(cache)))
    first, second = (statistics.median(found) for found in times.values())
    record = {"config": args.config, "unit": "s", "starts": times, "second / first": second / first, **provenance()}
    print(json.dumps(record, indent=1))
    if args.write:
        (RESULTS / f"first_step_{jax.default_backend()}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
