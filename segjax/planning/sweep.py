"""Many plans, ranked: batch size, split of the image, split of the parameters, topology."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.planning.text import gib, ms, table


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One combination."""

    topology: str
    batch_size: int
    spatial: int
    fsdp: int

    @property
    def folder(self) -> str:
        return f"{self.topology.replace(':', '-')}-batch{self.batch_size}-spatial{self.spatial}-fsdp{self.fsdp}"

    def arguments(self) -> list[str]:
        """Of `segjax plan`."""
        return [
            f"--topology={self.topology}",
            f"--config.train.batch_size={self.batch_size}",
            "--config.parallel.data=-1",
            f"--config.parallel.spatial={self.spatial}",
            f"--config.parallel.fsdp={self.fsdp}",
        ]


def candidates(
    topologies: Mapping[str, int],
    batches: Sequence[int],
    spatials: Sequence[int],
    fsdps: Sequence[int],
    *,
    unit: int = 1,
) -> Iterator[Candidate]:
    """The combinations whose numbers divide; the others could not run.

    Args:
      topologies: name -> devices.
      batches: over all devices.
      spatials, fsdps: devices along these axes.
      unit: micro-batches a step.
    """
    for (name, devices), batch, spatial, fsdp in itertools.product(topologies.items(), batches, spatials, fsdps):
        if devices % (spatial * fsdp) == 0 and batch % (devices // spatial * unit) == 0:
            yield Candidate(name, batch, spatial, fsdp)


def sweep(
    chosen: Sequence[Candidate],
    command: Sequence[str],
    folder: Path,
    *,
    seconds: float,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Plans each candidate in a process of its own, so that one that hangs or aborts costs only itself.

    A candidate whose plan.json lies in its folder already, from the same command, is read and not planned again.

    Args:
      chosen: what to plan.
      command: `segjax plan` with all arguments that candidates share.
      folder: each candidate's folder lies in it.
      seconds: limit of one plan.
      say: told before each.

    Returns:
      Of each candidate {candidate's fields, `plan`: the record or None, `error`: why there is none}.
    """
    rows = []
    for number, one in enumerate(chosen, 1):
        place = folder / one.folder
        arguments = [*command, *one.arguments(), f"--output={place}"]
        record, error = _read(place, arguments), None
        say(f"{number} of {len(chosen)}: {one.folder}{' (planned before)' if record else ''}")
        if record is None:
            (place / "plan.json").unlink(missing_ok=True)
            try:
                done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds)
            except subprocess.TimeoutExpired:
                error = f"took longer than {seconds / 60:g} minutes"
            else:
                if (place / "plan.json").is_file():
                    (place / "arguments.json").write_text(json.dumps(arguments))
                    record = _read(place, arguments)
                else:
                    error = (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
        rows.append({**dataclasses.asdict(one), "plan": record, "error": error})
    return rows


def rank(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each candidate its figures: those that fit first, by images/s a chip at the slow end of the bracket; then what
    does not fit, by how much; then what could not be planned."""
    ranked = []
    for row in rows:
        record = row["plan"]
        figures = {key: row[key] for key in ("topology", "batch_size", "spatial", "fsdp")}
        if record is None:
            ranked.append(figures | {"fits": None, "error": row["error"]})
            continue
        times = record.get("timing") or {}
        ranked.append(
            figures
            | {
                "fits": record["fits"],
                "needed": record["memory"]["needed"],
                "available": record["memory"]["available"],
                "seconds": times.get("seconds"),
                "images_per_second_per_chip": times.get("images_per_second_per_chip"),
                "mfu": times.get("mfu"),
            }
        )

    def order(row: Mapping[str, Any]) -> tuple:
        rate = (row.get("images_per_second_per_chip") or [0.0])[0]
        return ({True: 0, False: 1, None: 2}[row["fits"]], -rate, row.get("needed") or 0)

    return sorted(ranked, key=order)


def lines(ranked: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ranking as a table."""
    header = ["topology", "batch", "spatial", "fsdp", "memory", "ms a step", "images/s a chip", "MFU"]
    rows = []
    for row in ranked:
        first = [row["topology"], str(row["batch_size"]), str(row["spatial"]), str(row["fsdp"])]
        if row["fits"] is None:
            rows.append([*first, f"not planned: {row['error']}", "", "", ""])
            continue
        memory = gib(row["needed"]) + ("" if row["fits"] else f", {gib(row['needed'] - row['available'])} too much")
        rate, mfu = row["images_per_second_per_chip"], row["mfu"]
        rows.append(
            [
                *first,
                memory,
                " to ".join(ms(value) for value in row["seconds"]) if row["seconds"] else "",
                " to ".join(f"{value:,.1f}" for value in rate) if rate else "",
                " to ".join(f"{value:.1%}" for value in mfu) if mfu else "",
            ]
        )
    return table(header, rows)


def _read(place: Path, arguments: Sequence[str]) -> dict[str, Any] | None:
    try:
        if json.loads((place / "arguments.json").read_text()) != list(arguments):
            return None
        return json.loads((place / "plan.json").read_text())
    except (OSError, ValueError):
        return None
