"""Scores as a table: rich in a terminal, plain aligned columns elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

PER_CLASS = {
    "per_class_iou": "IoU",
    "per_class_dice": "Dice",
    "per_class_accuracy": "accuracy",
    "per_class_boundary_f1": "boundary F1",
}
OVERALL = {
    "miou": "mIoU",
    "mean_dice": "mean Dice",
    "mean_accuracy": "mean accuracy",
    "boundary_f1": "boundary F1",
    "pixel_accuracy": "pixel accuracy",
    "fwiou": "frequency-weighted IoU",
}


def pixel_shares(confusion: Sequence[Sequence[int]]) -> list[float]:
    """Each class's share of the true pixels that have a class; [K + 1][K + 1] matrix, row = truth, last = void."""
    rows = [sum(row) for row in confusion[:-1]]
    total = sum(rows)
    return [row / total if total else math.nan for row in rows]


def class_rows(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Column names, and a row [name, numbers...] for each class; the last column is the share of true pixels."""
    columns = {key: title for key, title in PER_CLASS.items() if key in metrics}
    count = len(metrics["per_class_iou"])
    names = metrics.get("classes") or [str(k) for k in range(count)]
    shares = pixel_shares(metrics["confusion"])
    rows = [[names[k], *(metrics[key][k] for key in columns), shares[k]] for k in range(count)]
    return ["class", *columns.values(), "pixels"], rows


def number(value: float | None) -> str:
    """`0.8123`, or `-` for what does not exist."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def print_scores(metrics: Mapping[str, Any], title: str, stream: TextIO | None = None) -> None:
    """Prints the per-class table and the overall scores, mIoU last."""
    stream = stream or sys.stdout
    header, rows = class_rows(metrics)
    cells = [[row[0], *(number(value) for value in row[1:-1]), share(row[-1])] for row in rows]
    overall = [(OVERALL[key], number(metrics[key])) for key in reversed(OVERALL) if key in metrics]
    if stream.isatty():
        _print_rich(header, cells, title, stream)
    else:
        _print_plain(header, cells, title, stream)
    for name, value in overall:
        print(f"{name:<24}{value}", file=stream)


def share(value: float | None) -> str:
    """A share as percents."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.2%}"


def _print_rich(header: list[str], cells: list[list[str]], title: str, stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for name in header:
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in cells:
        table.add_row(*row)
    Console(file=stream).print(table)


def _print_plain(header: list[str], cells: list[list[str]], title: str, stream: TextIO) -> None:
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    print(title, file=stream)
    for row in [header, *cells]:
        first, rest = row[0].ljust(widths[0]), [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join([first, *rest]), file=stream)
