"""A plan as lines for the terminal, and the phrases that its page uses too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segjax.planning.memory import PARTS


def verdict(record: Mapping[str, Any]) -> str:
    """One sentence: fits, or by how much not and what would."""
    needed, available = record["memory"]["needed"], record["memory"]["available"]
    each = f"{record['batch_per_device']:g} a device"
    plain = record["memory"].get("without_recomputation")
    if record["fits"]:
        line = (
            f"fits: {gib(needed)} of {gib(available)} a device, {gib(available - needed)} free, at "
            f"{record['batch_size']} images a step ({each})"
        )
        return f"{line}, because the compiler recomputes: {gib(plain)} otherwise" if plain else line
    line = (
        f"does not fit: {gib(needed)} needed, {gib(available)} there, {gib(needed - available)} too much, at "
        f"{record['batch_size']} images a step ({each})"
    )
    if plain:
        line += f", although the compiler recomputes ({gib(plain)} otherwise)"
    elif not record["memory"]["complete"]:
        line += ", unless the compiler recomputes (--recompute lets it)"
    found = record.get("would_fit")
    if not found:
        return line
    if found["batch_size"] is None:
        return (
            f"{line}; not even {min(map(int, found['compiled']))} images fit: split the image "
            "(config.parallel.spatial), set config.train.remat=all, or take a smaller crop"
        )
    line += f"; config.train.batch_size={found['batch_size']} fits ({gib(found['compiled'][str(found['batch_size'])])})"
    if found["predicted_largest"] > found["batch_size"]:
        line += f", and up to {found['predicted_largest']} should, by a line through what was compiled"
    return line


def lines(record: Mapping[str, Any]) -> list[str]:
    """The whole plan."""
    where = record["topology"]
    mesh = " x ".join(f"{axis} {size}" for axis, size in where["mesh"].items())
    out = [
        f"{record['model']}, {record['parameters']:,} parameters, {record['crop_size'][0]}x{record['crop_size'][1]}, "
        f"{record['dtype']}",
        f"{where['name']}: {where['chips']} chips, {where['devices']} devices ({where['kind']}), {mesh}",
        "",
        verdict(record),
        "",
        "memory a device",
        *table(["", "MiB", ""], memory_rows(record)),
    ]
    if "timing" in record:
        out += ["", *_work(record)]
        out += ["", "collectives a step and device", *table(_COLLECTIVES, collective_rows(record))]
        out += ["", "time", *table(["estimator", "ms", "leaves out"], time_rows(record))]
        out += [f"  {line}" for line in summary(record)]
        out += ["", f"dearest operations ({record['operations_shown']:.0%} of what is priced)"]
        out += table(_OPERATIONS, operation_rows(record))
        if record["unpriced"]:
            out += [f"  {unpriced(record)}"]
        out += ["", "advice", *([f"  - {line}" for line in record["advice"]] or ["  none"])]
    return [*out, "", record["note"]]


_COLLECTIVES = ["kind", "along", "devices", "count", "MiB of result", "MiB sent"]
_OPERATIONS = ["module", "operation", "pass", "count", "ms", "share"]


def memory_rows(record: Mapping[str, Any]) -> list[list[str]]:
    parts = record["memory"]["parts"]
    rows = [[key.replace("_", " "), mib(parts[key]), PARTS[key]] for key in PARTS if key in parts]
    if not record["memory"]["complete"]:
        rest = record["memory"]["needed"] - sum(parts.values())
        rows.append(["the rest", mib(rest), "the compiler gave up and tells the sum only"])
    return [*rows, ["total", mib(record["memory"]["needed"]), f"of {gib(record['memory']['available'])}"]]


def collective_rows(record: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [
            row["kind"],
            " and ".join(row["axes"]) or "?",
            str(row["devices"]),
            str(row["count"]),
            mib(row["bytes"]),
            mib(row["bytes_sent"]),
        ]
        for row in record["collectives"]
    ]
    return rows or [["none", "", "", "", "", ""]]


def time_rows(record: Mapping[str, Any]) -> list[list[str]]:
    times = record["timing"]
    rows = [[row["name"], ms(row["seconds"]), row["leaves_out"]] for row in times["estimators"]]
    if times["exchange_seconds"] is not None:
        rows.append(
            ["exchange", ms(times["exchange_seconds"]), "latency; assumes stated links, one dimension, nothing hidden"]
        )
    return rows


def summary(record: Mapping[str, Any]) -> list[str]:
    """Step time, rate and utilisation as brackets."""
    times = record["timing"]
    if times["seconds"] is None:
        return ["no estimate of the time: nothing states this device's peaks"]
    low, high = times["seconds"]
    note = " (one estimator: a floor)" if times["one_sided"] else ""
    slow, fast = times["images_per_second"]
    each = times["images_per_second_per_chip"]
    found = [
        f"step: {ms(low)} to {ms(high)} ms{note}; {slow:,.0f} to {fast:,.0f} images/s, "
        f"{each[0]:,.1f} to {each[1]:,.1f} a chip"
    ]
    if times["mfu"]:
        found.append(f"model FLOP/s utilisation: {times['mfu'][0]:.1%} to {times['mfu'][1]:.1%}")
    return found


def operation_rows(record: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            row["module"],
            row["operation"],
            "backward" if row["backward"] else "forward",
            str(row["count"]),
            ms(row["seconds"]) if row["seconds"] is not None else "",
            f"{row['share']:.1%}",
        ]
        for row in record["operations"]
    ]


def unpriced(record: Mapping[str, Any]) -> str:
    """What the cycles leave out, by opcode."""
    found = ", ".join(f"{count} {opcode}" for opcode, count in record["unpriced"].items())
    return f"not priced: {found}; {record['priced']} instructions are"


def _work(record: Mapping[str, Any]) -> list[str]:
    work = record["work"]
    found = []
    if work["model_flops"]:
        found.append(f"model: {work['model_flops'] / 1e12:,.3f} TFLOP a step")
    if work["device_flops"]:
        found.append(f"{work['device_flops'] / 1e12:,.3f} TFLOP a device ({work['device_flops_are']})")
    if work["device_bytes"]:
        found.append(f"{work['device_bytes'] / 1e9:,.2f} GB accessed a device")
    return ["work: " + "; ".join(found)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns; those of numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    numeric = [all(_number(row[i]) for row in rows) and bool(rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        cells = [cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric)]
        return ("  " + "  ".join(cells)).rstrip()

    return ([line(header)] if any(header) else []) + [line(row) for row in rows]


def _number(text: str) -> bool:
    return not text or text.replace(",", "").replace(".", "").replace("%", "").replace("-", "").isdigit()


def gib(size: float) -> str:
    """In GiB, or MiB where that would be a small fraction."""
    return f"{size / 2**30:.2f} GiB" if abs(size) >= 2**29 else f"{size / 2**20:.1f} MiB"


def mib(size: float) -> str:
    """Such as 1,203.4 or 0.017."""
    return f"{size / 2**20:,.1f}" if abs(size) >= 2**20 else f"{size / 2**20:.3f}"


def ms(seconds: float) -> str:
    """Milliseconds, such as 1,203.45 or 0.00127."""
    return f"{1e3 * seconds:,.2f}" if seconds >= 1e-3 or seconds == 0 else f"{1e3 * seconds:.3g}"
