"""Calls that take turns in one process, and what is recorded of them."""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from segjax.inference.provenance import provenance


def add_turn_arguments(parser: argparse.ArgumentParser, rounds: int, seconds: float) -> None:
    """`--rounds`, `--seconds`."""
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="for the rounds of one network")


def alternate(arms: dict[str, Callable[[], Any]], rounds: int, seconds: float = math.inf) -> dict[str, list[float]]:
    """Seconds of each arm's calls, taking turns, the order turned round every round: so many rounds, but after three no
    longer than `seconds`."""
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    began = time.perf_counter()
    order = list(arms)
    for turn in range(rounds):
        for arm in order:
            start = time.perf_counter()
            arms[arm]()
            times[arm].append(time.perf_counter() - start)
        order.reverse()
        if turn >= 2 and time.perf_counter() - began > seconds:
            break
    return times


def timed(arms: dict[str, Callable[[], Any]], args: argparse.Namespace, memory_kept: bool) -> dict[str, Any]:
    """The record of warm arms: medians by name, and under what circumstances.

    Args:
      arms: calls, which return when they are done.
      args: of `add_turn_arguments` and `subjects.add_input_arguments`.
      memory_kept: what `keep_freed_memory` said.
    """
    load = os.getloadavg()[0]
    times = alternate(arms, args.rounds, args.seconds)
    return {
        **{arm: statistics.median(found) for arm, found in times.items()},
        "fastest": {arm: min(found) for arm, found in times.items()},
        "rounds": min(map(len, times.values())),
        "load before": round(load, 1),
        "freed memory kept": memory_kept,
        **circumstances(args),
    }


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """The input, as `args` has it, and the program and machine."""
    return {"size": list(args.size), "batch": args.batch, "dtype": args.dtype, **provenance()}
