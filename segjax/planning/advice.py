"""What the compiled program says one could do better: channels, batch, gathers, small exchanges, memory."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from segjax.planning.chips import Chip
from segjax.planning.collectives import Collective
from segjax.planning.hlo import Program, flops, shapes
from segjax.planning.operations import origin

LEAST_SHARE = 0.02
"""Of the products' FLOPs: below it, a channel count is not worth a line."""
_BARELY = 1 / 3
"""Of a multiple's width: channels that reach so little into the last one waste most of it."""


def advise(
    program: Program,
    chip: Chip,
    *,
    mesh: Mapping[str, int],
    batch: int,
    crop: tuple[int, int],
    stride: int,
    parameters: Sequence[tuple[int, ...]],
    exchanged: Sequence[Collective],
    memory: Mapping[str, int],
    available: float,
) -> list[str]:
    """Sentences, most urgent first; none where nothing stands out.

    Args:
      program: compiled, of one device.
      chip: of one device.
      mesh: axes and sizes.
      batch: over all devices.
      crop: (height, width) of a training sample.
      stride: the network's.
      parameters: their shapes, whole and as a device holds them: gathering them is what fsdp is.
      exchanged: of `collectives.collectives`.
      memory: of `memory.table`.
      available: bytes a device.
    """
    return [
        *_gathers(exchanged, parameters, crop),
        *_batch(chip, mesh, batch),
        *_channels(program, chip),
        *_rows(mesh, crop, stride),
        *_small_exchanges(exchanged),
        *_memory(memory, available, mesh),
        *_loops(program),
    ]


def _gathers(
    exchanged: Sequence[Collective], parameters: Sequence[tuple[int, ...]], crop: tuple[int, int]
) -> list[str]:
    known = {tuple(sorted(shape)) for shape in parameters}
    image = crop[0] * crop[1] // 64  # a map at stride 8, of one channel
    told = {}
    for one in exchanged:
        if one.kind != "all-gather" or tuple(sorted(one.dimensions)) in known:
            continue
        if len(one.dimensions) >= 3 and math.prod(one.dimensions) >= image:
            where = origin(one.module, one.kind)
            told.setdefault(where, one)
            if one.bytes > told[where].bytes:
                told[where] = one
    return [
        f"{where.module} ({where.operation}{', backward' if where.backward else ''}) all-gathers "
        f"{one.dtype}{list(one.dimensions)} over {' and '.join(one.axes) or f'{one.group} devices'}, "
        f"{_mib(one.bytes)} a device: it does not split along the image; give that axis fewer devices, or "
        "take another operation."
        for where, one in sorted(told.items(), key=lambda item: -item[1].bytes)[:5]
    ]


def _batch(chip: Chip, mesh: Mapping[str, int], batch: int) -> list[str]:
    shards = mesh.get("data", 1) * mesh.get("fsdp", 1)
    each = batch // shards
    if each % chip.sublanes == 0:
        return []
    better = math.ceil(each / chip.sublanes) * chip.sublanes
    return [
        f"{each} image{'s' if each > 1 else ''} a device fill {each % chip.sublanes or chip.sublanes} of "
        f"{chip.sublanes} sublanes where the batch lies in them, and copies between layouts cost more: try "
        f"config.train.batch_size={better * shards} ({better} a device) if it fits, or fewer chips."
    ]


def _channels(program: Program, chip: Chip) -> list[str]:
    """Convolutions whose output or input channels reach just above a multiple of the lanes."""
    if chip.lanes <= 1:
        return []
    total, by_count = 0, {}
    for one, computation, times in program.executed:
        bodies = program.inside(one) if one.opcode == "fusion" else [(one, computation)]
        for inner, name in bodies:
            work = flops(program, inner, name) * times if inner.opcode != "fusion" else 0
            if not work:
                continue
            total += work
            for channels in set(_channel_counts(program, inner, name)):
                share, wheres = by_count.setdefault(channels, [0, {}])
                by_count[channels][0] = share + work
                wheres[origin(inner.op_name, inner.opcode).module] = None
    lines = []
    for channels, (work, wheres) in sorted(by_count.items(), key=lambda item: -item[1][0]):
        over = channels % chip.lanes
        if total and work / total >= LEAST_SHARE and channels > chip.lanes and 0 < over <= _BARELY * chip.lanes:
            fewer, more = channels - over, channels - over + chip.lanes
            lines.append(
                f"{channels} channels ({', '.join(list(wheres)[:3])}{', ...' if len(wheres) > 3 else ''}; "
                f"{work / total:.0%} of the products' FLOPs) are just above {fewer}: they cost about what {more} do; "
                f"take {fewer} or {more}."
            )
    return lines


def _channel_counts(program: Program, one: Any, computation: str) -> list[int]:
    if one.opcode != "convolution":
        return []
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    operands = program.operands(one, computation)
    if labels is None or len(operands) < 2:
        return []
    kernel = shapes(operands[1].shape)[0][1]
    found = []
    for label in "io":
        # In a weight gradient a channel axis can be the window of the whole image: only what stays a feature counts.
        found.append(kernel[labels[2].index(label)])
    return found


def _rows(mesh: Mapping[str, int], crop: tuple[int, int], stride: int) -> list[str]:
    parts = mesh.get("spatial", 1)
    if parts > 1 and crop[0] % (parts * stride):
        return [
            f"the deepest map has {crop[0] // stride} rows, which {parts} parts of the image do not share evenly: some "
            f"devices wait; a height that is a multiple of {parts * stride}, or fewer parts, fills them."
        ]
    return []


def _small_exchanges(exchanged: Sequence[Collective]) -> list[str]:
    small = sum(one.times for one in exchanged if one.kind == "all-reduce" and one.bytes <= 2**16)
    if small < 50:
        return []
    return [
        f"{small} all-reduces of up to 64 KiB: statistics of normalisations over the whole batch, each waiting for all "
        "devices; their latency is in no estimate."
    ]


def _memory(memory: Mapping[str, int], available: float, mesh: Mapping[str, int]) -> list[str]:
    total = sum(memory.values())
    state = memory["parameters"] + memory["optimiser_state"] + memory["average"]
    if total > available:
        if state > 0.3 * available and mesh.get("fsdp", 1) == 1:
            return ["parameters and what goes with them take much of the memory: config.parallel.fsdp splits them."]
        return [
            "over the memory: a smaller batch, config.train.remat=all, or config.parallel.spatial splits the image."
        ]
    if total < 0.4 * available:
        return [f"{1 - total / available:.0%} of the memory stays free: a larger batch would fit."]
    return []


def _loops(program: Program) -> list[str]:
    if not program.open_loops:
        return []
    return [
        f"{program.open_loops} loops whose trip count the program does not tell are counted once: time, FLOPs, bytes "
        "and exchange are too low where they run longer (gradient accumulation is one)."
    ]


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"
