"""A plan as one self-contained HTML page, in the look of a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from segjax.planning import text
from segjax.report.charts import bar
from segjax.report.style import CSS


def page(record: Mapping[str, Any]) -> str:
    """The page's text.

    Args:
      record: of `plan`, or one that was read back from its JSON.
    """
    where = record["topology"]
    mesh = " × ".join(f"{axis} {size}" for axis, size in where["mesh"].items())
    title = f"{record['name']} on {where['name']}"
    sections = [
        f'<header><h1>{escape(title)}</h1><p class="lead">{escape(record["model"])}, '
        f"{record['parameters']:,} parameters, {record['crop_size'][0]}x{record['crop_size'][1]}, {record['dtype']}; "
        f"{where['chips']} chips, {where['devices']} devices, {escape(mesh)}</p></header>",
        _head(record),
        _section("Memory", "a device; the rows add up", _memory(record)),
    ]
    if "timing" in record:
        hint = "an estimator alone is not to be trusted: each leaves something out"
        sections += [
            _section("Time", hint, _table(["estimator", "ms", "leaves out"], text.time_rows(record))),
            _section(
                "Exchange",
                "collectives a step and device",
                _table(
                    ["kind", "along", "devices", "count", "MiB of result", "MiB sent"], text.collective_rows(record)
                ),
            ),
            _section("Dearest operations", _priced(record), _operations(record)),
            _section("Advice", "", _advice(record["advice"])),
        ]
    versions = " · ".join(f"{escape(k)} {escape(v)}" for k, v in (record.get("versions") or {}).items())
    command = f"<p><code>{escape(record['command'])}</code></p>" if record.get("command") else ""
    sections.append(f"<footer><p>{escape(record['note'])}</p>{command}<p>{versions}</p></footer>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · segjax plan</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(record: Mapping[str, Any]) -> str:
    memory = record["memory"]
    tiles = [(text.gib(memory["headroom"]), "headroom a device")]
    if "timing" in record and record["timing"]["seconds"]:
        times = record["timing"]
        tiles += [
            (" – ".join(text.ms(value) for value in times["seconds"]), "ms a step"),
            (" – ".join(f"{value:,.1f}" for value in times["images_per_second_per_chip"]), "images/s a chip"),
        ]
        if times["mfu"]:
            tiles.append((" – ".join(f"{value:.0%}" for value in times["mfu"]), "model FLOP/s utilisation"))
    shown = "".join(
        f'<div><div class="value">{escape(value)}</div><div class="name">{escape(name)}</div></div>'
        for value, name in tiles
    )
    return (
        f'<div class="score"><div class="card main-score"><div class="name">memory</div>'
        f'<div class="value">{"fits" if record["fits"] else "too large"}</div>'
        f'<div class="name">{escape(text.verdict(record))}</div></div><div class="card tiles">{shown}</div></div>'
    )


def _memory(record: Mapping[str, Any]) -> str:
    available = record["memory"]["available"]
    sizes = [float(row[1].replace(",", "")) * 2**20 / available for row in text.memory_rows(record)]
    body = "".join(
        f"<tr><td>{escape(name)}</td>{bar(size, value)}<td>{escape(what)}</td></tr>"
        for (name, value, what), size in zip(text.memory_rows(record), sizes)
    )
    return _card(f"<table><thead><tr><th></th><th>MiB</th><th></th></tr></thead><tbody>{body}</tbody></table>")


def _operations(record: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("module", "operation", "pass", "count", "ms", "share"))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row[:-1]) + bar(one["share"], row[-1]) + "</tr>"
        for row, one in zip(text.operation_rows(record), record["operations"])
    )
    return _card(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _priced(record: Mapping[str, Any]) -> str:
    shown = f"{record['operations_shown']:.0%} of what is priced"
    return f"{shown}; {text.unpriced(record)}" if record["unpriced"] else shown


def _advice(lines: Sequence[str]) -> str:
    if not lines:
        return '<p class="none">nothing stands out</p>'
    return '<div class="card"><ul>' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul></div>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return _card(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _section(title: str, hint: str, content: str) -> str:
    shown = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f"<section><h2>{escape(title)}</h2>{shown}{content}</section>"


def _card(content: str) -> str:
    return f'<div class="card scroll">{content}</div>'
