"""Repeated calls on the clock: rounds of several calls, since a device works while the host goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

_ROUND = 0.2  # s; the clock and the last call's end weigh little in a round this long


def measure(call: Callable[[], Any], rounds: int = 10, warmup: int = 2) -> list[float]:
    """Seconds of one call, in each of so many rounds.

    Args:
      call: starts work and returns arrays that are ready when it is done.
      rounds: each of as many calls as take 0.2 s, and waited for at its end.
      warmup: calls before them.
    """
    for _ in range(warmup):
        jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready(call())
    calls = max(1, round(_ROUND / max(time.perf_counter() - began, 1e-9)))
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            result = call()
        jax.block_until_ready(result)
        found.append((time.perf_counter() - began) / calls)
    return found


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """`median`, `fastest`, `slowest` (seconds), and how many `rounds`."""
    return {
        "median": float(np.median(seconds)),
        "fastest": float(min(seconds)),
        "slowest": float(max(seconds)),
        "rounds": len(seconds),
    }
