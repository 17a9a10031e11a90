"""Every measured program of this folder that a new machine should run, one after the other.

    python benchmarks/run_all.py [--camvid FOLDER] [--only against_torch] [--dry-run]

On a GPU: networks in bfloat16 against PyTorch's, at 512x512 and 8 images; on a CPU in float32, at 256x256 and 2. Each
program writes its own file under results/, as its docstring says; one that fails is named at the end, and the rest go
on. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import pathlib
import shlex
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent


def programs(accelerator: bool, camvid: pathlib.Path | None) -> dict[str, list[str]]:
    """{name: arguments of Python}."""
    networks = ["--dtype=bfloat16", "--size=512x512", "--batch=8"] if accelerator else []
    found = {
        "formulations": ["formulations.py"],
        "ops": ["ops.py"],
        "loss": ["loss.py", "time"],
        "against_torch": ["against_torch.py", *networks],
        "frozen_encoder": ["frozen_encoder.py", *networks],
        "input_pipeline": ["input_pipeline.py"],
    }
    if not accelerator:
        found["host_memory"] = ["host_memory.py"]
    if camvid is not None:
        found["input_pipeline"].append(f"--images={camvid}")
        found["evaluation"] = ["evaluation.py", f"--root={camvid}", "--write"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the benchmarks of this machine.")
    parser.add_argument("--camvid", type=pathlib.Path, help="CamVid's folder; without it what needs it is left out")
    parser.add_argument("--only", nargs="+", default=[], help="names of programs")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    args = parser.parse_args()

    import jax

    chosen = programs(jax.default_backend() != "cpu", args.camvid)
    for name in set(args.only) - set(chosen):
        parser.error(f"{name}: unknown here; these are known: {', '.join(chosen)}")
    failed = []
    for name, (script, *arguments) in chosen.items():
        if args.only and name not in args.only:
            continue
        command = [sys.executable, str(HERE / script), *arguments]
        print(f"{name}: {shlex.join(command)}", flush=True)
        if args.dry_run:
            continue
        began = time.monotonic()
        status = subprocess.run(command, check=False).returncode
        print(
            f"{name}: {'done' if status == 0 else f'FAILED ({status})'} in {time.monotonic() - began:.0f} s", flush=True
        )
        if status:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
