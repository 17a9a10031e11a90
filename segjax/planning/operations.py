"""Where a step's time goes: the compiled instructions, priced, and summed by the network's modules."""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Any

from segjax.planning.chips import Chip
from segjax.planning.collectives import KINDS
from segjax.planning.hlo import FREE, Instruction, Program, flops, nbytes

# Instructions that take time and that the TPU compiler gives no cycles.
_UNPRICED = frozenset(
    (
        *KINDS,
        *(f"{kind}-start" for kind in KINDS),
        "select-and-scatter",
        "reduce-window",
        "sort",
        "scatter",
        "gather",
        "custom-call",
        "fusion",
        "convolution",
        "dot",
        "copy-start",
        "slice-start",
        "async-start",
    )
)
_NO_WORK = FREE | {"while", "call", "conditional", "async-start", "async-update", "async-done"}
_WRAPPERS = re.compile(
    r"^(?:jit|vmap|pjit|shard_map|checkpoint|remat|rematted_computation|while|body|cond|branch_\w+|"
    r"closed_call|custom_jvp_call|custom_vjp_call)(?:\(.*\))?$"
)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where jax traced an operation.

    Attributes:
      module: path in the network, such as `UNet/down1/conv`; the scope (`augmentation`, `loss`, `update`) outside it.
      operation: jax's primitive, such as conv_general_dilated, or the compiler's opcode where it made the operation.
      backward: of the backward pass.
    """

    module: str
    operation: str
    backward: bool


def origin(op_name: str, opcode: str) -> Origin:
    """Reads an `op_name`, such as `jit(step)/transpose(jvp(UNet))/down1/conv/conv_general_dilated`."""
    first = op_name.partition(";")[0]
    if "/" not in first:
        return Origin("(compiler)", opcode, False)
    *scopes, operation = _split(first)
    if operation.startswith("("):  # several that the compiler merged, `scope/(a/mul:b/mul)`: the first
        *more, operation = _split(operation[1:].partition(":")[0])
        scopes += more
    backward, path = False, []
    for scope in scopes[1:]:
        while found := re.fullmatch(r"(transpose|jvp)\((.*)\)", scope):
            backward |= found[1] == "transpose"
            scope = found[2]
        for part in _split(scope):
            # `UNet._up`: a method; the module stands before it.
            if part and "." not in part and not _WRAPPERS.match(part):
                path.append(part)
    return Origin("/".join(path) or "(outside the network)", operation, backward)


def price(program: Program, chip: Chip) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Instructions of a step priced and summed by origin, dearest first.

    A TPU's are priced by the compiler's cycles. Elsewhere each takes the larger of its products' FLOPs at the peak and
    its bytes at the memory's bandwidth; where no bandwidth is stated, shares are by eight FLOPs a byte.

    Returns:
      Rows {module, operation, backward, seconds (or None), share, count, flops, bytes}; and {cycles, seconds: sums or
      None, priced: instructions, unpriced: {opcode: count}}.
    """
    rows: dict[Origin, dict[str, float]] = collections.defaultdict(
        lambda: dict.fromkeys(("weight", "count", "flops", "bytes"), 0)
    )
    unpriced: collections.Counter[str] = collections.Counter()
    cycles, priced = 0, 0
    counts_cycles = chip.clock is not None
    for one, computation, times in program.executed:
        if one.opcode in _NO_WORK:
            continue
        row = rows[origin(program.traced(one, computation), one.opcode)]
        row["count"] += times
        work, moved = flops(program, one, computation), _moved(program, one, computation)
        row["flops"] += times * work
        row["bytes"] += times * moved
        if counts_cycles:
            if one.cycles is not None:
                row["weight"] += times * one.cycles
                cycles += times * one.cycles
                priced += 1
            elif one.opcode in _UNPRICED and "ConcatBitcast" not in one.attributes:
                unpriced[one.opcode] += times
        else:
            row["weight"] += times * _roofline(work, moved, chip)
            priced += 1
    total = sum(row["weight"] for row in rows.values())
    if counts_cycles:
        unit = 1 / chip.clock
    else:
        unit = 1.0 if chip.flops and chip.bandwidth else None
    listed = [
        {
            "module": key.module,
            "operation": key.operation,
            "backward": key.backward,
            "seconds": row["weight"] * unit if unit else None,
            "share": row["weight"] / total if total else 0.0,
            "count": int(row["count"]),
            "flops": int(row["flops"]),
            "bytes": int(row["bytes"]),
        }
        for key, row in rows.items()
    ]
    listed.sort(key=lambda row: (-row["share"], row["module"], row["operation"]))
    return listed, {
        "cycles": cycles if counts_cycles else None,
        "seconds": total * unit if unit and not counts_cycles else None,
        "priced": priced,
        "unpriced": dict(unpriced.most_common()),
    }


def _roofline(work: float, moved: float, chip: Chip) -> float:
    if chip.flops and chip.bandwidth:
        return max(work / chip.flops, moved / chip.bandwidth)
    # No stated peaks (simulated devices): 8 FLOPs a byte, so that shares are of something.
    return max(work / 8, moved)


def _moved(program: Program, one: Instruction, computation: str) -> int:
    """Bytes of operands and result in the device's main memory; a slice reads no more than it yields."""
    result = nbytes(one.shape, main_memory=True)
    if one.opcode in ("slice", "dynamic-slice", "gather"):
        return 2 * result
    return result + sum(nbytes(operand.shape, main_memory=True) for operand in program.operands(one, computation))


def _split(path: str) -> list[str]:
    """At the slashes outside parentheses."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(path):
        depth += (char == "(") - (char == ")")
        if char == "/" and depth == 0:
            parts.append(path[start:at])
            start = at + 1
    return [*parts, path[start:]]
