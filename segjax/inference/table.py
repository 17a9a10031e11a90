"""Scores as a table: rich in a terminal, plain aligned columns elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from segjax.tasks.view import View


def number(value: float | None) -> str:
    """`0.8123`, or `-` for what does not exist."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def print_scores(view: View, metrics: Mapping[str, Any], title: str, stream: TextIO | None = None) -> None:
    """Prints the per-class table and the overall scores, the headline last."""
    stream = stream or sys.stdout
    table = view.table(metrics)
    header, forms = table.columns, [share if name in table.percent else number for name in table.columns[1:]]
    cells = [[row[0], *(form(value) for form, value in zip(forms, row[1:]))] for row in table.rows]
    overall = [(view.overall[key], number(metrics[key])) for key in reversed(view.overall) if key in metrics]
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
