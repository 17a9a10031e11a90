"""All processes of a run meet at process 0 before jax.distributed starts, so that who is missing has a name.

jax itself ends a process that waited in vain with an abort and a stack trace, and knows no names. The meeting uses the
port that jax's coordination service is given next. Messages are one line of JSON each way.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from segjax.core.errors import ClusterError

RETRY = 0.5
"""Seconds between two tries to reach process 0."""
PATIENCE = 5.0
"""Seconds a process that connected has for its line; whatever else connects (a port scanner) is sent away."""


def roll_call(coordinator: str, processes: int, process: int, timeout: float, facts: Mapping[str, Any]) -> list[str]:
    """Waits until all processes have called, or ends them all with the same error.

    Args:
      coordinator: "host:port" of process 0.
      processes, process: how many there are, and which this is.
      timeout: seconds.
      facts: what must be the same in all processes, such as versions; JSON values.

    Returns:
      The processes' host names, in their order.

    Raises:
      ClusterError: a process that did not call in time, one that called twice, or one whose facts differ.
    """
    host, _, port = coordinator.rpartition(":")
    mine = {"process": process, "host": socket.gethostname(), "pid": os.getpid()}
    mine["facts"] = {"number of processes": processes, **facts}
    deadline = time.monotonic() + timeout
    if process == 0:
        return _hold(int(port), processes, mine, deadline, timeout)
    return _answer(host.strip("[]"), int(port), mine, deadline, timeout)


def _hold(port: int, processes: int, mine: dict[str, Any], deadline: float, timeout: float) -> list[str]:
    """Process 0's part."""
    dual = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual, backlog=processes
        )
    except OSError as error:
        raise ClusterError(
            f"port {port} of {mine['host']} cannot be opened ({os.strerror(error.errno)}): is another run using it? "
            "Give process 0 another coordinator address."
        ) from error
    called, lines, problem = {0: mine}, {}, None
    with server, contextlib.ExitStack() as open_lines:
        while len(called) < processes and problem is None:
            server.settimeout(max(0.0, deadline - time.monotonic()) or 1e-3)
            try:
                line = open_lines.enter_context(server.accept()[0])
                theirs = _read(line, PATIENCE)
                number = theirs["process"]
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue  # someone connected and said nothing
                problem = _missing(called, processes, timeout)
                break
            except (OSError, ValueError, KeyError, TypeError):
                continue
            lines[id(line)] = line
            problem = _conflict(called, theirs, mine)
            called[number] = theirs
        answer = {"error": problem} if problem else {"hosts": [called[p]["host"] for p in range(processes)]}
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.sendall(json.dumps(answer).encode() + b"\n")
    if problem:
        raise ClusterError(problem)
    return answer["hosts"]


def _answer(host: str, port: int, mine: dict[str, Any], deadline: float, timeout: float) -> list[str]:
    """The other processes' part."""
    reason = "no answer"
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=PATIENCE) as line:
                line.sendall(json.dumps(mine).encode() + b"\n")
                answer = _read(line, max(0.0, deadline - time.monotonic()) + PATIENCE)
        except (OSError, ValueError) as error:  # not up yet, its name not known yet, or another program's port
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            time.sleep(RETRY)
            continue
        if "error" in answer:
            raise ClusterError(answer["error"])
        return answer["hosts"]
    raise ClusterError(
        f"process {mine['process']} ({mine['host']}) could not reach process 0 at {host}:{port} within {timeout:g} s "
        f"({reason}): is it running there, and is the port open between the hosts?"
    )


def _read(line: socket.socket, patience: float) -> dict[str, Any]:
    line.settimeout(patience or 1e-3)
    with line.makefile("rb") as file:
        value = json.loads(file.readline(2**20) or b"null")
    if not isinstance(value, dict):
        raise ValueError("closed the connection")
    return value


def _missing(called: Mapping[int, Mapping[str, Any]], processes: int, timeout: float) -> str:
    missing = [str(p) for p in range(processes) if p not in called]
    there = ", ".join(f"{p} ({called[p]['host']})" for p in sorted(called))
    return (
        f"{len(called)} of {processes} processes joined within {timeout:g} s: {there}; missing: {', '.join(missing)}. "
        "Look at those hosts' logs, or raise config.parallel.join_timeout."
    )


def _conflict(
    called: Mapping[int, Mapping[str, Any]], theirs: Mapping[str, Any], mine: Mapping[str, Any]
) -> str | None:
    number = theirs["process"]
    for name, value in mine["facts"].items():
        found = theirs.get("facts", {}).get(name)
        if found != value:
            return (
                f"{name} is {value!r} for process 0 ({mine['host']}) and {found!r} for process {number} "
                f"({theirs.get('host')}); start all processes alike."
            )
    if not 0 <= number < mine["facts"]["number of processes"] or number in called:
        other = called.get(number, mine)
        return (
            f"two processes say they are process {number}: pid {other['pid']} on {other['host']} and pid "
            f"{theirs.get('pid')} on {theirs.get('host')}; each needs an id of its own."
        )
    return None
