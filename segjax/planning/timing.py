"""How long a step may take: several estimators, what each leaves out, and the bracket they span.

No single one is to be trusted: the compiler's own model prices no exchange between chips, its cycle counts skip many
operations, and a peak is never reached. Nothing here was validated against a measured step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from segjax.planning.chips import Chip


def optimal_seconds(analysis: Mapping[str, float] | None) -> float | None:
    """The compiler's sum of rooflines; None where it has none.

    Each custom call it cannot price adds -1 s; the whole seconds are put back, which is right for steps under 1 s.
    """
    value = (analysis or {}).get("optimal_seconds")
    if value is None or not math.isfinite(value):
        return None
    return value + math.ceil(-value) if value < 0 else value


def estimate(
    chip: Chip,
    *,
    flops: float | None,
    nbytes: float | None,
    optimal: float | None,
    cycles: int | None,
    operations: float | None,
    sent: float,
) -> dict[str, Any]:
    """The estimators and their bracket, as JSON values.

    Args:
      chip: of one device.
      flops, nbytes: of one device and step, as the compiler counts them; None where it does not.
      optimal: of `optimal_seconds`.
      cycles: the compiler's, summed over the program; None where it counts none.
      operations: sum over the program of each operation's own roofline, seconds, where the compiler has no estimate.
      sent: bytes a device sends to others.

    Returns:
      `estimators`: [{name, seconds, prices, leaves_out}]; `exchange_seconds` by the stated link bandwidth along one
      dimension of the torus, or None; `seconds`: [low, high], the least of the estimators with the exchange hidden
      behind work, and the greatest with none of it hidden. A bracket of one estimator says so in `one_sided`.
    """
    rows = []
    if flops and chip.flops:
        rows.append(
            _row(
                "arithmetic",
                flops / chip.flops,
                "the compiled FLOPs at the stated bfloat16 peak",
                "all memory traffic, every operation that does not fill the matrix unit, exchange; a floor",
            )
        )
    if nbytes and chip.bandwidth:
        rows.append(
            _row(
                "traffic",
                nbytes / chip.bandwidth,
                "the compiled bytes accessed at the stated memory bandwidth",
                "arithmetic, exchange; counts operands that stay on the chip, so it overstates traffic",
            )
        )
    if optimal:
        rows.append(
            _row(
                "rooflines",
                optimal,
                "the compiler's optimal_seconds: each operation's larger of arithmetic and traffic",
                "exchange between chips, custom calls, taps on padding, layout costs; loops count once",
            )
        )
    if operations:
        rows.append(
            _row(
                "operations",
                operations,
                "each operation's larger of its products' FLOPs and its operands' and results' bytes, at stated peaks",
                "exchange, library calls' inner traffic, launch times; loops without a known count run once",
            )
        )
    if cycles and chip.clock:
        rows.append(
            _row(
                "cycles",
                cycles / chip.clock,
                f"the compiler's estimated_cycles at an inferred {chip.clock / 1e9:g} GHz",
                "operations without an estimate (`unpriced`), exchange, waiting for copies; loops count once",
            )
        )
    exchange = sent / (chip.network / chip.dimensions) if chip.network else None
    # The floor of arithmetic bounds from below; what a step takes is between the others.
    spans = [row["seconds"] for row in rows if row["name"] not in ("arithmetic", "traffic")]
    roofline = [max(row["seconds"] for row in rows if row["name"] in ("arithmetic", "traffic"))] if rows else []
    if not spans:
        spans = roofline
    elif any(row["name"] == "traffic" for row in rows):
        spans = spans + roofline
    seconds = [min(spans), max(spans) + (exchange or 0.0)] if spans else None
    return {
        "estimators": rows,
        "exchange_seconds": exchange,
        "seconds": seconds,
        "one_sided": len(spans) < 2,
    }


def _row(name: str, seconds: float, prices: str, leaves_out: str) -> dict[str, Any]:
    return {"name": name, "seconds": seconds, "prices": prices, "leaves_out": leaves_out}
