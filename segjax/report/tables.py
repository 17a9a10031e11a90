"""Scores by class as a table of bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from segjax.inference.table import share
from segjax.report.charts import bar
from segjax.tasks.view import Table

Palette = Sequence[tuple[int, int, int]]


def class_table(table: Table, palette: Palette, hint: str) -> str:
    """The section `classes`: each row with its class's colour."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = []
    for row, colour in zip(table.rows, palette):
        cells = [f"<td>{swatch(colour)}{escape(row[0])}</td>"]
        for name, value in zip(table.columns[1:], row[1:]):
            cells.append(bar(value, share(value) if name in table.percent else f"{value:.3f}" if known(value) else ""))
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return (
        f'<section id="classes"><h2>Classes</h2><p class="hint">{escape(hint)}</p>'
        f'<div class="card scroll">{rows}</div></section>'
    )


def swatch(colour: Sequence[int]) -> str:
    """A small square of a colour."""
    red, green, blue = (int(part) for part in colour)
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'


def known(value: float | None) -> bool:
    """Whether a score exists."""
    return value is not None and math.isfinite(value)
