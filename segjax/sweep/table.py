"""What came out of a sweep: a row for each setting, mean and deviation over its seeds."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from segjax.core.config import best_metric
from segjax.core.files import write_text
from segjax.core.jsonable import jsonable
from segjax.sweep.queue import FAILED, RESULTS, Queue
from segjax.sweep.variants import Variant

JSON, CSV = "table.json", "table.csv"
LOG = "metrics.jsonl"


def collect(queue: Queue) -> dict[str, Any]:
    """The sweep's record as JSON values.

    Returns:
      `metric`, the config's `checkpoint.best`, by which rows are ordered, best first; `variants`, a dict for each:
      `name`, `setting`, `overrides`, `seed`, `status` (done, failed or open), `error`, `step`, `metrics` (numbers and
      per-class lists), `curve` ([step, metric] of the evaluations on the way); `rows`, a dict for each setting:
      `label`, `overrides` without the seed, `variants` (names), `seeds`, `done` (how many), `metrics`
      {name: {`mean`, `deviation`}}: the sample standard deviation, None of fewer than two.
    """
    metric = best_metric(queue.variants[0].config)
    variants = [_read(queue, variant, metric) for variant in queue.variants]
    settings: dict[str, list[dict[str, Any]]] = {}
    for record in variants:
        settings.setdefault(record["setting"], []).append(record)
    rows = [_row(records) for records in settings.values()]
    sign = 1 if "loss" in metric else -1

    def rank(row: Mapping[str, Any]) -> float:
        mean = row["metrics"].get(metric, {}).get("mean")
        return math.inf if mean is None else sign * mean

    return jsonable({"metric": metric, "rows": sorted(rows, key=rank), "variants": variants})


def write_table(folder: Path, record: Mapping[str, Any]) -> None:
    """Keeps `table.json`, all of the record, and `table.csv`, a line a row, in the sweep's folder."""
    write_text(folder / JSON, json.dumps(record, indent=1, allow_nan=False) + "\n")
    keys = list(dict.fromkeys(key for row in record["rows"] for key in row["overrides"]))
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["metrics"]))
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["setting", *keys, "runs", *(f"{name} {part}" for name in names for part in ("mean", "deviation"))])
    for row in record["rows"]:
        scores = [row["metrics"].get(name, {}).get(part) for name in names for part in ("mean", "deviation")]
        out.writerow([row["label"], *(row["overrides"].get(key) for key in keys), row["done"], *scores])
    write_text(folder / CSV, text.getvalue())


def print_table(record: Mapping[str, Any], columns: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Prints a line a row: setting, finished runs, mean ± deviation of each metric of `columns` {name: title}."""
    shown = {name: title for name, title in columns.items() if any(name in row["metrics"] for row in record["rows"])}
    cells = [["setting", "runs", *shown.values()]]
    for row in record["rows"]:
        runs = f"{row['done']}/{len(row['variants'])}" if row["done"] < len(row["variants"]) else str(row["done"])
        cells.append([row["label"], runs, *(mean_text(row["metrics"].get(name)) for name in shown)])
    widths = [max(map(len, column)) for column in zip(*cells)]
    for first, *rest in cells:
        line = "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:]))])
        print(line, file=stream or sys.stdout)


def mean_text(score: Mapping[str, float | None] | None) -> str:
    """`0.6581 ± 0.0042`, `0.6581` of a single run, `-` of none."""
    if not score or score["mean"] is None:
        return "-"
    return f"{score['mean']:.4f}" + ("" if score["deviation"] is None else f" ± {score['deviation']:.4f}")


def _read(queue: Queue, variant: Variant, metric: str) -> dict[str, Any]:
    workdir = queue.workdir(variant)
    record: dict[str, Any] = {
        "name": variant.name,
        "setting": variant.setting,
        "overrides": dict(variant.overrides),
        "seed": variant.config.seed,
        "status": "open",
        "metrics": {},
        "curve": _curve(workdir / LOG, metric),
    }
    if (workdir / RESULTS).is_file():
        results = json.loads((workdir / RESULTS).read_text(encoding="utf-8"))
        kept = {key: value for key, value in results["metrics"].items() if key != "confusion"}
        record |= {"status": "done", "step": results["step"], "split": results["split"], "metrics": kept}
    elif (workdir / FAILED).is_file():
        record |= {"status": "failed", **json.loads((workdir / FAILED).read_text(encoding="utf-8"))}
    return record


def _row(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    done = [record for record in records if record["status"] == "done"]
    first = records[0]
    names = dict.fromkeys(name for record in done for name, value in record["metrics"].items() if _is_number(value))
    metrics = {}
    for name in names:
        values = [record["metrics"][name] for record in done if _is_number(record["metrics"].get(name))]
        metrics[name] = {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
    return {
        "label": first["name"] if len(records) == 1 else first["setting"],
        "overrides": {key: value for key, value in first["overrides"].items() if key != "seed"},
        "variants": [record["name"] for record in records],
        "seeds": [record["seed"] for record in records],
        "done": len(done),
        "metrics": metrics,
    }


def _curve(path: Path, metric: str) -> list[list[float]]:
    """[step, metric] of the evaluations in a log; none without a log."""
    points = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if record["kind"] == "eval" and record.get(metric) is not None:
            points.append([record["step"], record[metric]])
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
