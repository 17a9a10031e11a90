#!/usr/bin/env python3
"""Runs a command on all workers of a Cloud TPU VM slice, through gcloud; creates and deletes the slice if asked.

    python launch/tpu_vm.py NAME --zone=us-west4-a --dry-run -- segjax train --config=... --workdir=/mnt/bucket/run
    python launch/tpu_vm.py NAME --zone=... --create --delete --queued --spot --accelerator-type=v5litepod-64
        --runtime-version=v2-alpha-tpuv5-lite --restarts=5 --setup='pip install ./segjax[tpu]' -- segjax train ...

The workers find each other by the slice's metadata. A run that a worker's SIGTERM ends, or that loses a process, starts
again on the workers with --resume. Where the whole slice is taken away (spot), --create makes it anew and goes on, so
the workdir must outlive the slice: a mounted bucket or disk.

Commands and flags: `gcloud compute tpus tpu-vm --help` and `queued-resources --help`, Google Cloud SDK 528.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from run_command import EXIT_RESUME, RESUME, split, with_resume

TPUS = ("gcloud", "compute", "tpus")
POLL = 30.0
"""Seconds between two looks at a queued resource."""
WAITS = ("CREATING", "ACCEPTED", "PROVISIONING", "WAITING_FOR_RESOURCES")
LOST = ("PREEMPTED", "TERMINATED", "SUSPENDING", "SUSPENDED", "FAILED", "")
"""States of a slice, or of its queued resource, that is no longer there; the empty one: it cannot be described."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the TPU VM, and of its queued resource")
    parser.add_argument("--zone", required=True)
    parser.add_argument("--project")
    parser.add_argument("--create", action="store_true", help="make the slice first, and again when it is taken away")
    parser.add_argument("--delete", action="store_true", help="and delete it at the end")
    parser.add_argument("--queued", action="store_true", help="create it as a queued resource, and wait for it")
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--accelerator-type", metavar="TYPE", help="such as v5litepod-64; needed by --create")
    parser.add_argument("--runtime-version", metavar="VERSION", help="such as v2-alpha-tpuv5-lite; needed by --create")
    parser.add_argument("--copy", metavar="FOLDER", help="copied to each worker's home first, such as .")
    parser.add_argument("--setup", action="append", default=[], metavar="COMMAND", help="run on each worker first")
    parser.add_argument("--restarts", type=int, default=3, metavar="N", help="with --resume; default 3")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and end")
    options, command = split(argv)
    args = parser.parse_args(options)
    if args.create and not (args.accelerator_type and args.runtime_version):
        raise SystemExit("--create: give --accelerator-type and --runtime-version too.")
    if args.dry_run:
        for words in plan(args, command):
            print(shlex.join(words))
        return 0
    if shutil.which("gcloud") is None:
        raise SystemExit("gcloud is not on this machine; see the commands with --dry-run.")
    return run(args, command)


def plan(args: argparse.Namespace, command: Sequence[str]) -> list[list[str]]:
    """All commands, in order, of a run that nothing disturbs."""
    made = [create(args), *([describe(args)] if args.queued else [])] if args.create else []
    return [*made, *prepare(args), ssh(args, remote(command, args.restarts)), *([delete(args)] if args.delete else [])]


def run(args: argparse.Namespace, command: Sequence[str], call: Callable[..., int] = subprocess.call) -> int:
    """Makes the slice, runs, and makes it anew while it is taken away; returns the run's status."""
    try:
        for attempt in range(args.restarts + 1):
            if args.create and not obtain(args, call):
                return 1
            for words in prepare(args):
                if status := call(words):
                    return status
            status = call(ssh(args, remote(with_resume(command) if attempt else command, args.restarts)))
            if status == 0 or not args.create or attempt == args.restarts or state(args) not in LOST:
                return status
            print(f"{args.name} was taken away; restart {attempt + 1} of {args.restarts}", file=sys.stderr, flush=True)
            call(delete(args))
        return status
    finally:
        if args.delete:
            call(delete(args))


def obtain(args: argparse.Namespace, call: Callable[..., int]) -> bool:
    """Creates the slice, and waits while it is queued; false where it cannot be had."""
    if call(create(args)):
        return False
    while args.queued and (found := state(args)) != "ACTIVE":
        if found not in WAITS:
            print(f"{args.name}: the queued resource is {found or 'gone'}.", file=sys.stderr, flush=True)
            return False
        time.sleep(POLL)
    return True


def state(args: argparse.Namespace) -> str:
    """READY of a VM or ACTIVE of a queued resource where it can be used; empty where it is gone."""
    return subprocess.run(describe(args), capture_output=True, text=True).stdout.strip()


def create(args: argparse.Namespace) -> list[str]:
    spot = ["--spot"] if args.spot else []
    accelerator = f"--accelerator-type={args.accelerator_type}"
    if args.queued:
        kind = ["queued-resources", "create", args.name, f"--node-id={args.name}"]
        return [*TPUS, *kind, *where(args), accelerator, f"--runtime-version={args.runtime_version}", *spot]
    return [*TPUS, "tpu-vm", "create", args.name, *where(args), accelerator, f"--version={args.runtime_version}", *spot]


def describe(args: argparse.Namespace) -> list[str]:
    kind, field = ("queued-resources", "state.state") if args.queued else ("tpu-vm", "state")
    return [*TPUS, kind, "describe", args.name, *where(args), f"--format=value({field})"]


def delete(args: argparse.Namespace) -> list[str]:
    kind, force = ("queued-resources", ["--force"]) if args.queued else ("tpu-vm", [])  # --force: the VM in it too
    return [*TPUS, kind, "delete", args.name, *where(args), *force, "--quiet"]


def prepare(args: argparse.Namespace) -> list[list[str]]:
    """Copying and setting up, on all workers."""
    copied = []
    if args.copy:
        copied = [[*TPUS, "tpu-vm", "scp", "--recurse", args.copy, f"{args.name}:", *where(args), "--worker=all"]]
    return [*copied, *(ssh(args, line) for line in args.setup)]


def ssh(args: argparse.Namespace, line: str) -> list[str]:
    return [*TPUS, "tpu-vm", "ssh", args.name, *where(args), "--worker=all", f"--command={line}"]


def where(args: argparse.Namespace) -> list[str]:
    return [f"--zone={args.zone}", *([f"--project={args.project}"] if args.project else [])]


def remote(command: Sequence[str], restarts: int) -> str:
    """What a worker's shell runs: the command, and again with --resume while its status asks for it."""
    line = shlex.join(word for word in command if word != RESUME)
    first = RESUME if RESUME in command else ""
    done = f'[ "$status" -ne {EXIT_RESUME} ] && [ "$status" -le 128 ] || [ "$n" -ge {restarts} ]'
    return (
        f"n=0; resume={first}; while :; do {line} $resume; status=$?; "
        f'if {done}; then exit "$status"; fi; n=$((n + 1)); resume={RESUME}; done'
    )


if __name__ == "__main__":
    sys.exit(main())
