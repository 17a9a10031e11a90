"""What devices exchange in one run of a compiled program: kind, count, bytes, along which axes of the mesh."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

from segjax.planning.hlo import Instruction, Program, nbytes, shapes

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of one device.

    Attributes:
      kind: of KINDS.
      bytes: of its result.
      sent: what a device sends at least, a ring's share: of n devices, 2 (n - 1) / n of an all-reduce, (n - 1) / n of
        what a gather yields or a scatter or exchange takes, a permutation's all.
      group: devices that take part.
      axes: of the mesh, along which they lie; empty where no set of axes gives these groups.
      dtype: of the (first) result.
      dimensions: of the (first) result.
      module: `op_name` of the instruction.
      times: how often a step runs it.
      asynchronous: whether the program does other work meanwhile.
    """

    kind: str
    bytes: int
    sent: float
    group: int
    axes: tuple[str, ...]
    dtype: str
    dimensions: tuple[int, ...]
    module: str
    times: int
    asynchronous: bool


def collectives(program: Program, mesh: Mapping[str, int]) -> list[Collective]:
    """All collectives of a program that was partitioned over a mesh of these axes, slowest first."""
    found = []
    in_fusions: set[tuple] = set()
    for one, computation, times in program.executed:
        if one.opcode == "fusion":
            # Collectives that the compiler fused; a start and a done fusion each hold a copy of the same one.
            for inner, name in program.inside(one):
                if _kind(inner.opcode) is None or inner.opcode.endswith("-start"):
                    continue
                channel = re.search(r"channel_id=(\d+)", inner.attributes)
                key = (inner.opcode, inner.shape, channel[1] if channel else inner.name)
                if key not in in_fusions:
                    in_fusions.add(key)
                    found.append(_read(program, inner, name, times, mesh))
        elif _kind(one.opcode) is not None and not one.opcode.endswith("-start"):
            found.append(_read(program, one, computation, times, mesh))
    return found


def totals(found: list[Collective]) -> list[dict]:
    """Sums by kind and axes, most bytes sent first: JSON values."""
    sums: dict[tuple, dict] = {}
    for one in found:
        key = (one.kind, one.axes, one.group)
        row = sums.setdefault(
            key,
            {"kind": one.kind, "axes": list(one.axes), "devices": one.group, "count": 0, "bytes": 0, "bytes_sent": 0},
        )
        row["count"] += one.times
        row["bytes"] += one.times * one.bytes
        row["bytes_sent"] += round(one.times * one.sent)
    return sorted(sums.values(), key=lambda row: -row["bytes_sent"])


def _kind(opcode: str) -> str | None:
    base = opcode.removesuffix("-start").removesuffix("-done")
    return base if base in KINDS else None


def _read(program: Program, one: Instruction, computation: str, times: int, mesh: Mapping[str, int]) -> Collective:
    asynchronous = one.opcode.endswith("-done")
    # The result is the done's, groups and origin are the start's.
    start = program.computations[computation].get(one.operands[0], one) if asynchronous else one
    kind, size = _kind(one.opcode), nbytes(one.shape)
    groups = _groups(start.attributes, math.prod(mesh.values()))
    group = len(groups[0])
    if kind == "collective-permute":
        pairs = [
            (int(a), int(b))
            for a, b in re.findall(r"\{(\d+),(\d+)\}", _attribute(start.attributes, "source_target_pairs"))
        ]
        axes = _axes_of_pairs(pairs, mesh)
        group = math.prod(mesh[axis] for axis in axes) if axes else group
    else:
        axes = _axes_of_groups(groups, mesh)
    arrays = shapes(one.shape)
    return Collective(
        kind=kind,
        bytes=size,
        sent=_sent(kind, size, group),
        group=group,
        axes=axes,
        dtype=arrays[0][0] if arrays else "",
        dimensions=arrays[0][1] if arrays else (),
        module=start.op_name,
        times=times,
        asynchronous=asynchronous,
    )


def _sent(kind: str, size: int, group: int) -> float:
    if group < 2 and kind != "collective-permute":
        return 0.0
    match kind:
        case "all-reduce":
            return 2 * (group - 1) / group * size
        case "reduce-scatter":
            return (group - 1) * size
        case "collective-permute" | "collective-broadcast":
            return float(size)
        case _:
            return (group - 1) / group * size


def _attribute(text: str, key: str) -> str:
    """The value of `key={...}` or `key=[...]...`, up to the next attribute."""
    found = re.search(rf"\b{key}=", text)
    if found is None:
        return ""
    value = text[found.end() :]
    depth = 0
    for at, char in enumerate(value):
        depth += char in "{[("
        depth -= char in "}])"
        if char == "," and depth == 0:
            return value[:at]
    return value


def _groups(attributes: str, devices: int) -> list[list[int]]:
    """`replica_groups` in each of its spellings: {{0,1},{2,3}}, [2,4]<=[8], [2,4]<=[4,2]T(1,0), mesh[...] {'axis'}."""
    text = _attribute(attributes, "replica_groups")
    if listed := re.findall(r"\{([\d,]+)\}", text):
        return [[int(i) for i in group.split(",")] for group in listed]
    if iota := re.fullmatch(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text.strip()):
        counts, dims = ([int(i) for i in part.split(",")] for part in iota.groups()[:2])
        ids = np.arange(math.prod(dims)).reshape(dims)
        if iota[3]:
            ids = ids.transpose([int(i) for i in iota[3].split(",")])
        return ids.reshape(counts[0], -1).tolist()
    if named := re.match(r"mesh\[([^\]]*)\]\s*\{([^}]*)\}", text.strip()):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        chosen = re.findall(r"'([^']+)'", named[2])
        ids = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        order = [i for i, name in enumerate(sizes) if name not in chosen] + [list(sizes).index(name) for name in chosen]
        return ids.transpose(order).reshape(-1, math.prod(sizes[name] for name in chosen)).tolist()
    return [list(range(devices))]


def _subsets(mesh: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    axes = [axis for axis, size in mesh.items() if size > 1]
    for count in range(1, len(axes) + 1):
        yield from itertools.combinations(axes, count)


def _axes_of_groups(groups: list[list[int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
    wanted = {frozenset(group) for group in groups}
    for axes in _subsets(mesh):
        if {frozenset(group) for group in _along(axes, mesh)} == wanted:
            return axes
    return ()


def _axes_of_pairs(pairs: list[tuple[int, int]], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """The fewest axes along which every pair lies."""
    for axes in _subsets(mesh):
        member = {device: number for number, group in enumerate(_along(axes, mesh)) for device in group}
        if pairs and all(member.get(a) == member.get(b) is not None for a, b in pairs):
            return axes
    return ()


def _along(axes: tuple[str, ...], mesh: Mapping[str, int]) -> list[list[int]]:
    ids = np.arange(math.prod(mesh.values())).reshape(list(mesh.values()))
    names = list(mesh)
    order = [i for i, name in enumerate(names) if name not in axes] + [names.index(name) for name in axes]
    return ids.transpose(order).reshape(-1, math.prod(mesh[name] for name in axes)).tolist()
