#!/usr/bin/env python3
"""Starts n processes of a run on this machine, with real collectives between them.

    python launch/local.py --processes=2 --cpu-devices=4 -- segjax train --config=configs/quickstart.py
    python launch/local.py --processes=2 --gpus=0,1,2,3 --restarts=3 -- segjax train --config=...

Each process's lines carry its number. SIGTERM and the first Ctrl-C ask the run to save and end, a second one kills it.
A process that is lost takes the others with it; the run is then started again with --resume, as often as --restarts
says, and so is one that a process's own SIGTERM ended. Exit status: the run's.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from run_command import EXIT_RESUME, resumable, split, with_resume

KILL_AFTER = 10.0
"""Seconds between SIGTERM and SIGKILL for processes that outlive a lost one."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many; default 1")
    devices = parser.add_mutually_exclusive_group()
    devices.add_argument("--cpu-devices", type=int, metavar="M", help="simulated CPU devices of each process")
    devices.add_argument("--gpus", metavar="0,1,...", help="GPUs, shared out evenly in this order")
    parser.add_argument("--port", type=int, help="of process 0; default: a free one")
    parser.add_argument("--restarts", type=int, default=0, metavar="N", help="starts with --resume; default 0")
    parser.add_argument(
        "--grace", type=float, default=60.0, metavar="S", help="seconds the others have to end after one was lost"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be run, and end")
    options, command = split(argv)
    args = parser.parse_args(options)
    shares = shares_of(args.gpus, args.processes)

    if args.dry_run:
        for environment in environments(args, shares):
            print(shlex.join(["env", *(f"{key}={value}" for key, value in environment.items()), *command]))
        return 0
    for attempt in range(args.restarts + 1):
        run = Run(with_resume(command) if attempt else command, environments(args, shares), args.grace)
        status = run.wait()
        if not resumable(status) or run.asked or attempt == args.restarts:
            return status
        say(f"ended with status {status}; restart {attempt + 1} of {args.restarts} with --resume")
    return status


def shares_of(gpus: str | None, processes: int) -> list[str] | None:
    """Each process's `CUDA_VISIBLE_DEVICES`; exits where the GPUs do not divide."""
    if processes < 1:
        raise SystemExit(f"--processes: {processes} is below 1.")
    if gpus is None:
        return None
    names = [name for name in gpus.split(",") if name]
    if not names or len(names) % processes:
        raise SystemExit(f"--gpus: {len(names)} GPUs do not divide among {processes} processes.")
    share = len(names) // processes
    return [",".join(names[p * share : (p + 1) * share]) for p in range(processes)]


def environments(args: argparse.Namespace, shares: list[str] | None) -> list[dict[str, str]]:
    """What each process finds in its environment beside ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", args.port or 0))
        port = probe.getsockname()[1]
    found = []
    for process in range(args.processes):
        environment = {
            "SEGJAX_LAUNCHER": "launch/local.py",
            "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
            "JAX_NUM_PROCESSES": str(args.processes),
            "JAX_PROCESS_ID": str(process),
        }
        if args.cpu_devices is not None:
            environment |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(args.cpu_devices)}
        if shares is not None:
            environment["CUDA_VISIBLE_DEVICES"] = shares[process]
        found.append(environment)
    return found


class Run:
    """One start of all processes.

    Attributes:
      asked: a signal asked this launcher to end the run.
    """

    def __init__(self, command: Sequence[str], environments: Sequence[dict[str, str]], grace: float):
        self.asked, self._grace, self._lock = False, grace, threading.Lock()
        self._processes = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._forward)
        for environment in environments:
            # A session of its own: the terminal's Ctrl-C comes here alone, and is passed on once.
            self._processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        self._readers = [
            threading.Thread(target=self._copy, args=(index,), daemon=True) for index in range(len(environments))
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> int:
        """The run's exit status, when all processes have ended.

        That of the first process that failed; a status that calls for --resume counts only where no other error does.
        """
        failed: list[int] = []
        deadline, told, running = None, False, True
        while running:
            running = None in [process.poll() for process in self._processes]  # all are asked, not the first alone
            for index, process in enumerate(self._processes):
                if process.returncode and index not in failed:
                    failed.append(index)
                    say(f"process {index} {_told(process.returncode)}")
            if failed and deadline is None:
                deadline = time.monotonic() + self._grace
            if running and deadline is not None and time.monotonic() > deadline:
                rest = [index for index, process in enumerate(self._processes) if process.returncode is None]
                say(f"process {', '.join(map(str, rest))} did not end within {self._grace:g} s; ending it")
                self._signal(signal.SIGKILL if told else signal.SIGTERM)
                deadline, told = time.monotonic() + KILL_AFTER, True
            time.sleep(0.05 if running else 0)
        for reader in self._readers:
            reader.join(5)
        statuses = [_status(self._processes[index].returncode) for index in failed]
        errors = [status for status in statuses if not resumable(status)]
        return (errors or [status for status in statuses if status == EXIT_RESUME] or statuses or [0])[0]

    def _forward(self, number: int, frame: object) -> None:
        self._signal(signal.SIGKILL if self.asked else signal.SIGTERM)
        self.asked = True

    def _signal(self, number: int) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, number)

    def _copy(self, index: int) -> None:
        prefix = f"[{index}] ".encode() if len(self._processes) > 1 else b""
        for line in self._processes[index].stdout:
            with self._lock:
                sys.stdout.buffer.write(prefix + line.rstrip(b"\n") + b"\n")
                sys.stdout.buffer.flush()


def say(text: str) -> None:
    print(f"launch/local.py: {text}", file=sys.stderr, flush=True)


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _told(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"


if __name__ == "__main__":
    sys.exit(main())
