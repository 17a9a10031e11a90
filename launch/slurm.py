#!/usr/bin/env python3
"""Writes the batch script of a run under SLURM, and submits it.

    python launch/slurm.py --nodes=4 --gpus-per-node=8 --time=8:00:00 --dry-run -- segjax train --config=...

One process a node takes all of its GPUs; --tasks-per-node shares them out. The processes find each other through what
srun tells them. Two minutes before the time limit, and when the job is preempted, the run saves and ends with a status
that makes the script put the job back in the queue, where it goes on with --resume.

Options: sbatch(1), srun(1) and scontrol(1) of SLURM 22.05.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from run_command import EXIT_RESUME, RESUME, split

KILL_WAIT = 60
"""Seconds that srun leaves the other tasks after the first has ended: the watchdog's time to speak."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job-name", default="segjax", metavar="NAME")
    parser.add_argument("--nodes", type=int, default=1, metavar="N")
    parser.add_argument("--tasks-per-node", type=int, default=1, metavar="N", help="processes a node; default 1")
    parser.add_argument("--gpus-per-node", type=int, metavar="N")
    parser.add_argument("--cpus-per-task", type=int, metavar="N")
    parser.add_argument("--time", metavar="LIMIT", help="such as 8:00:00")
    parser.add_argument("--partition", metavar="NAME")
    parser.add_argument("--account", metavar="NAME")
    parser.add_argument("--output", default="%x-%j.log", metavar="FILE", help="default %%x-%%j.log (job's name, id)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="any other, such as --qos=long")
    parser.add_argument("--setup", action="append", default=[], metavar="LINE", help="of the script, before the run")
    parser.add_argument("--restarts", type=int, default=3, metavar="N", help="times the job is queued again; default 3")
    parser.add_argument("--notice", type=int, default=120, metavar="S", help="seconds to save before the time limit")
    parser.add_argument("--script", type=Path, metavar="FILE", help="default NAME.sbatch")
    parser.add_argument("--dry-run", action="store_true", help="print the script and the command, and end")
    options, command = split(argv)
    args = parser.parse_args(options)
    for name in ("nodes", "tasks_per_node"):
        if getattr(args, name) < 1:
            raise SystemExit(f"--{name.replace('_', '-')}: {getattr(args, name)} is below 1.")
    if args.gpus_per_node and args.gpus_per_node % args.tasks_per_node:
        raise SystemExit(f"--gpus-per-node: {args.gpus_per_node} GPUs do not divide among {args.tasks_per_node} tasks.")
    text = script(args, command)
    path = args.script or Path(f"{args.job_name}.sbatch")
    submit = ["sbatch", "--parsable", str(path)]
    if args.dry_run:
        print(text, end="")
        print(f"# submitted with: {shlex.join(submit)}")
        return 0
    if shutil.which("sbatch") is None:
        raise SystemExit("sbatch is not on this machine; run this on a login node, or see the script with --dry-run.")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)
    return subprocess.run(submit).returncode


def script(args: argparse.Namespace, command: Sequence[str]) -> str:
    """The batch script."""
    options = {
        "job-name": args.job_name,
        "nodes": args.nodes,
        "ntasks-per-node": args.tasks_per_node,
        "gpus-per-node": args.gpus_per_node,
        "cpus-per-task": args.cpus_per_task,
        "time": args.time,
        "partition": args.partition,
        "account": args.account,
        "output": args.output,
        "open-mode": "append",
        "signal": f"TERM@{args.notice}",
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in args.sbatch)]
    srun = ["srun", "--kill-on-bad-exit=0", f"--wait={KILL_WAIT}", "--label"]
    if args.cpus_per_task is not None:  # which srun no longer takes from the job, since 22.05
        srun.append(f"--cpus-per-task={args.cpus_per_task}")
    resume = f'if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then resume=({RESUME}); fi'
    lines += [
        "",
        *args.setup,
        "resume=()",
        resume,
        "trap : TERM  # SIGTERM is for the tasks; without this it would end the script and, with it, the job",
        f'{shlex.join([*srun, *command])} "${{resume[@]}}"',
        "status=$?",
        f'if {{ [ "$status" -eq {EXIT_RESUME} ] || [ "$status" -gt 128 ]; }} &&'
        f' [ "${{SLURM_RESTART_COUNT:-0}}" -lt {args.restarts} ]; then',
        '    echo "ended with status $status; back in the queue, to go on with --resume"',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
