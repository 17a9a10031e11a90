"""What a device must hold during a step, by kind; and how large a batch would fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax

PARTS = {
    "parameters": "parameters, float32",
    "optimiser_state": "what the optimiser keeps of each parameter",
    "statistics": "running statistics of the normalisations",
    "average": "moving average of the parameters",
    "batch": "one batch as the host sends it",
    "layout": "what the compiler's tiles add to the arguments, less those that it drops",
    "outputs": "results that take over no argument",
    "temporaries": "activations, gradients, what is in flight",
    "code": "the program",
    "peak": "by how much the compiler's peak exceeds the sum of the above",
}
"""The rows of the table, in order; they add up to the total."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def held(leaves: Any) -> int:
    """Bytes that one device holds of a tree of arrays or shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(leaves)
    )


def arguments(state: Any, batch: Mapping[str, Any]) -> dict[str, int]:
    """The parts that are known before anything is compiled, bytes a device, by kind.

    Args:
      state: a `TrainState` of shapes with shardings; its step counter goes with the optimiser's state.
      batch: shapes with shardings.
    """
    return {
        "parameters": held(state.params),
        "optimiser_state": held(state.opt_state) + held(state.step),
        "statistics": held(state.model_state),
        "average": held(state.ema),
        "batch": held(dict(batch)),
    }


def table(known: Mapping[str, int], stats: Any) -> dict[str, int]:
    """All parts of `PARTS`, bytes a device.

    Args:
      known: of `arguments`.
      stats: `Compiled.memory_analysis()`.
    """
    parts = dict(known)
    parts["layout"] = stats.argument_size_in_bytes - sum(known.values())
    parts["outputs"] = stats.output_size_in_bytes - stats.alias_size_in_bytes
    parts["temporaries"] = stats.temp_size_in_bytes
    parts["code"] = stats.generated_code_size_in_bytes
    peak = getattr(stats, "peak_memory_in_bytes", 0) or 0
    # Neither figure is always the larger one; a device must hold the larger.
    parts["peak"] = max(0, peak - sum(parts.values()))
    return parts


def refused(message: str) -> tuple[float, float] | None:
    """(bytes needed, bytes available) from a TPU compiler's out-of-memory error; None for any other text."""
    found = re.search(r"\(([\d.]+)([KMGT]?)\) exceeds available \w+ \(([\d.]+)([KMGT]?)\)", message)
    if found is None:
        return None
    needed, unit, available, other = found.groups()
    return float(needed) * _UNITS[unit], float(available) * _UNITS[other]


def largest_batch(
    batch: int,
    needed: float,
    *,
    fixed: float,
    available: float,
    unit: int,
    measure: Callable[[int], float],
    most: int = 3,
) -> dict[str, Any]:
    """The batch that would fit where `batch` does not, by a line through what was compiled.

    Args:
      batch: over all devices, does not fit.
      needed: bytes a device it needs.
      fixed: bytes a device that do not grow with the batch: the first guess of the line's height at 0.
      available: bytes a device.
      unit: batches are multiples of it.
      measure: compiles a batch and tells the bytes it needs.
      most: batches to compile.

    Returns:
      `compiled`: {batch: bytes needed}; `fits`: the largest of them that fits, or None; `predicted`: the largest batch
      that the line through two of them lets fit, at least `fits`, or None where not even `unit` does.
    """
    compiled = {batch: needed}
    slope, height = max(needed - fixed, 1.0) / batch, fixed
    fits = None
    for left in reversed(range(most)):
        guess = max(unit, math.floor((available - height) / slope / unit) * unit)
        if left and len(compiled) > 1:
            # Memory grows in steps where a chip fills up its tiles, and a line within one of them points too low.
            guess = max(guess, min(compiled) // (2 * unit) * unit)
        guess = min(guess, min(compiled) - unit)
        if guess < unit:
            break
        compiled[guess] = measure(guess)
        (b0, m0), (b1, m1) = sorted(compiled.items())[:2]
        slope = max((m1 - m0) / (b1 - b0), 1e-9)
        height = m0 - slope * b0
        if compiled[guess] <= available:
            fits = guess
            break
    predicted = None
    if fits is not None:
        predicted = max(fits, min(math.floor((available - height) / slope / unit) * unit, batch - unit))
    return {"compiled": compiled, "fits": fits, "predicted": predicted}
