"""The variants of a sweep side by side, as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from segjax.core.files import write_text
from segjax.inference.table import number
from segjax.report.charts import bar, line_chart, ticks
from segjax.report.page import FILE
from segjax.report.style import CSS
from segjax.tasks.view import View

_ROW, _LEFT, _WIDTH = 26, 240, 940


def write_comparison(folder: str | Path, view: View, record: Mapping[str, Any], title: str) -> Path:
    """Writes FOLDER/report.html.

    Args:
      folder: the sweep's; each variant's own report is in its `runs/NAME`.
      view: of the task that all variants have.
      record: `segjax.sweep.table.collect`'s.
      title: the sweep's name.

    Raises:
      StorageError: the file cannot be written.
    """
    rows, variants = record["rows"], {variant["name"]: variant for variant in record["variants"]}
    sections = [
        _head(title, record),
        _scores(view, rows),
        _spread(view, rows, variants, record["metric"]),
        _curves(view, rows, variants, record["metric"]),
        _classes(view, rows, variants),
        _runs(view, record["variants"], record["metric"]),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · segjax sweep</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )
    return write_text(Path(folder) / FILE, page)


def _head(title: str, record: Mapping[str, Any]) -> str:
    variants = record["variants"]
    counts = {status: sum(one["status"] == status for one in variants) for status in ("done", "failed", "open")}
    lead = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    splits = {one["split"] for one in variants if "split" in one}
    where = f", scored on {escape(' and '.join(sorted(splits)))}" if splits else ""
    return f'<header><h1>{escape(title)}</h1><p class="lead">{len(variants)} variants: {lead}{where}</p></header>'


def _scores(view: View, rows: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in view.overall if any(name in row["metrics"] for row in rows)]
    head = "".join(f"<th>{escape(text)}</th>" for text in ("setting", "runs", *(view.overall[name] for name in names)))
    body = []
    for row in rows:
        cells = [f"<td>{escape(row['label'])}</td>", f'<td class="num">{row["done"]}/{len(row["variants"])}</td>']
        for name in names:
            score = row["metrics"].get(name, {"mean": None, "deviation": None})
            deviation = "" if score["deviation"] is None else f" ± {number(score['deviation'])}"
            cells.append(bar(score["mean"], f"{number(score['mean'])}{deviation}"))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        '<section id="scores"><h2>Settings</h2><p class="hint">best first; mean ± standard deviation over runs that '
        f'differ in seed only</p><div class="card scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _spread(view: View, rows: Sequence[Mapping[str, Any]], variants: Mapping[str, Any], metric: str) -> str:
    """Every run as a dot on one axis, every setting's mean as a line."""
    known = [row for row in rows if row["metrics"].get(metric)]
    if not known:
        return ""
    found = {row["label"]: [_score(variants[name], metric) for name in row["variants"]] for row in known}
    values = [value for line in found.values() for value in line if value is not None]
    marks = ticks(min(values), max(values), 6)
    low, high = min(marks[0], *values), max(marks[-1], *values)

    def place(value: float) -> float:
        return _LEFT + (value - low) / ((high - low) or 1) * (_WIDTH - _LEFT - 20)

    height = _ROW * len(known) + 34
    parts = [
        f'<svg class="spread" width="{_WIDTH}" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(metric)} of every run">'
    ]
    for mark in marks:
        x = place(mark)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{mark:.4g}</text>')
    for position, row in enumerate(known):
        y = 6 + _ROW * (position + 0.5)
        label, mean = row["label"], row["metrics"][metric]["mean"]
        short = label if len(label) <= 34 else label[:33] + "…"
        parts.append(f'<text class="tick" x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(short)}</text>')
        x = place(mean)
        parts.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 8:.1f}" y2="{y + 8:.1f}"/>')
        for name, value in zip(row["variants"], found[label]):
            if value is not None:
                parts.append(
                    f'<circle class="dot" cx="{place(value):.1f}" cy="{y:.1f}" r="3.4">'
                    f"<title>{escape(name)}: {value:.4f}</title></circle>"
                )
    title = escape(view.overall.get(metric, metric))
    return (
        f'<section id="spread"><h2>{title} of every run</h2><p class="hint">dots: runs; lines: means of a setting</p>'
        f'<div class="card scroll">{"".join(parts)}</svg></div></section>'
    )


def _curves(view: View, rows: Sequence[Mapping[str, Any]], variants: Mapping[str, Any], metric: str) -> str:
    cards = []
    for row in rows:
        curves = [variants[name]["curve"] for name in row["variants"] if variants[name]["curve"]]
        points = _mean_curve(curves)
        if points:
            chart = line_chart(points, label=f"{metric} of {row['label']}", form=lambda value: f"{value:.3g}")
            cards.append(f'<div class="card"><h3>{escape(row["label"])}</h3>{chart}</div>')
    if not cards:
        return ""
    name = escape(view.overall.get(metric, metric))
    return (
        f'<section id="curves"><h2>Validation {name} over steps</h2><p class="hint">mean over the seeds</p>'
        f'<div class="charts">{"".join(cards)}</div></section>'
    )


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, float]]:
    """The mean at the steps that all curves have."""
    if not curves:
        return []
    tables = [dict(map(tuple, curve)) for curve in curves]
    steps = sorted(set.intersection(*map(set, tables)))
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in steps]


def _classes(view: View, rows: Sequence[Mapping[str, Any]], variants: Mapping[str, Any]) -> str:
    columns, names, title = [], None, ""
    for row in rows:
        scores = [variants[name]["metrics"] for name in row["variants"] if variants[name]["status"] == "done"]
        tables = [view.table(one) for one in scores]
        if tables:
            title = tables[0].columns[1]
            names = names or [line[0] for line in tables[0].rows]
            values = zip(*([line[1] for line in table.rows] for table in tables))
            columns.append((row["label"], [_mean(value) for value in values]))
    if not columns:
        return ""
    head = "".join(f"<th>{escape(text)}</th>" for text in ("class", *(label for label, _ in columns)))
    body = "".join(
        f"<tr><td>{escape(str(name))}</td>{''.join(bar(means[k], number(means[k])) for _, means in columns)}</tr>"
        for k, name in enumerate(names)
    )
    return (
        f'<section id="classes"><h2>{escape(title)} of each class</h2><p class="hint">mean over the seeds</p>'
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></section>'
    )


def _runs(view: View, variants: Sequence[Mapping[str, Any]], metric: str) -> str:
    head = "".join(
        f"<th>{escape(text)}</th>" for text in ("variant", "seed", "status", view.overall.get(metric, metric))
    )
    body = []
    for one in variants:
        name = escape(one["name"])
        link = f'<a href="runs/{name}/{FILE}">{name}</a>' if one["status"] == "done" else name
        status = escape(one["status"] + (f": {one['error']}" if one.get("error") else ""))
        cells = (link, str(one["seed"]), status, number(_score(one, metric)))
        body.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return (
        '<section id="runs"><h2>Runs</h2><p class="hint">each with a report of its own</p><div class="card scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


def _score(variant: Mapping[str, Any], metric: str) -> float | None:
    return variant["metrics"].get(metric)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
