"""A run as one HTML file: scores, curves, the task's own sections, samples, configuration.

Everything is inside the file: no script, no font, no picture is fetched, so it can be mailed and opened years later.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from segjax.core.files import write_text
from segjax.core.schema import DatasetInfo
from segjax.inference import draw
from segjax.inference.table import number
from segjax.report.charts import line_chart
from segjax.report.style import CSS
from segjax.report.tables import known, swatch
from segjax.tasks.view import Picture, View

FILE, METRICS = "report.html", "metrics.jsonl"
LONGEST = 640  # pixels of a sample's longer side in the page


class Sample(Protocol):
    """A scored image: see `segjax.inference.samples.Sample`."""

    name: str
    score: float
    image: np.ndarray
    truth: Any
    prediction: Any


def write_report(
    workdir: str | Path,
    *,
    view: View,
    results: Mapping[str, Any],
    info: DatasetInfo,
    config: Mapping[str, Any] | None = None,
    best: Sequence[Sample] = (),
    worst: Sequence[Sample] = (),
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Writes WORKDIR/report.html from the run's log and its final scores.

    Args:
      workdir: holds `metrics.jsonl`, the training log; without it the page has no curves.
      view: of the run's task.
      results: as kept by `segjax evaluate --output`: `metrics`, `images` and, where known, `split`, `void`, `step`,
        `parameters`, `command`, `commit`, `time`, `versions`, `device`.
      info: names and colours of the classes.
      config: the run's, nested.
      best, worst: samples to show, best first and worst first.
      facts: further lines of the summary, such as {"cost": "3 euros"}.

    Raises:
      StorageError: the file cannot be written.
    """
    workdir = Path(workdir)
    metrics, records = results["metrics"], _read_log(workdir / METRICS)
    name = (config or {}).get("name") or workdir.resolve().name
    sections = [
        _head(name, results, info, config),
        _scores(view, metrics, results),
        _facts(results, records, config, facts or {}),
        _curves(view, records),
        *view.sections(metrics, info),
        _samples(view, best, worst, info),
        _config(config),
        _versions(results),
    ]
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)} · segjax</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in sections if part)
        + "\n</main>\n</body>\n</html>\n"
    )
    return write_text(workdir / FILE, page)


def _head(name: str, results: Mapping[str, Any], info: DatasetInfo, config: Mapping[str, Any] | None) -> str:
    parts = [(config or {}).get("model", {}).get("name"), f"{info.name} {results.get('split', '')}".strip()]
    lead = " on ".join(escape(part) for part in parts if part)
    return f'<header><h1>{escape(name)}</h1><p class="lead">{lead}</p></header>'


def _scores(view: View, metrics: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    (headline, title), *others = view.overall.items()
    table = view.table(metrics)
    numbers = [place for place, name in enumerate(table.columns) if place and name not in table.percent]
    scored = sum(any(known(row[place]) for place in numbers) for row in table.rows)
    images = f"{results['images']} image{'s' if results['images'] != 1 else ''}, {scored} classes"
    tiles = "".join(
        f'<div><div class="value">{number(metrics[key])}</div><div class="name">{name}</div></div>'
        for key, name in others
        if key in metrics
    )
    return (
        f'<div class="score" id="scores"><div class="card main-score"><div class="name">{title}</div>'
        f'<div class="value">{number(metrics[headline])}</div><div class="name">{images}</div></div>'
        f'<div class="card tiles">{tiles}</div></div>'
    )


def _facts(
    results: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any] | None,
    facts: Mapping[str, str],
) -> str:
    config = config or {}
    train = [record for record in records if record["kind"] == "train"]
    shown: dict[str, Any] = {"network": config.get("model", {}).get("name")}
    shown["parameters"] = f"{results['parameters']:,}" if results.get("parameters") else None
    shown["training time"] = _duration(_training_seconds(train)) if train else None
    shown |= facts
    shown["steps"] = f"{train[-1]['step']:,}" if train else None
    shown["scored checkpoint"] = f"step {results['step']:,}" if results.get("step") is not None else None
    shown["batch size"] = config.get("train", {}).get("batch_size")
    shown["void pixels"] = results.get("void")
    shown["device"] = results.get("device")
    shown["finished"] = results["time"].replace("T", " ").replace("+00:00", " UTC") if results.get("time") else None
    items = [f"<div><dt>{escape(key)}</dt><dd>{escape(str(value))}</dd></div>" for key, value in shown.items() if value]
    for key in ("command", "commit"):
        if results.get(key):
            items.append(f'<div class="wide"><dt>{key}</dt><dd><code>{escape(results[key])}</code></dd></div>')
    return f'<section id="run"><h2>Run</h2><dl class="card facts">{"".join(items)}</dl></section>'


def _curves(view: View, records: Sequence[Mapping[str, Any]]) -> str:
    headline, name = next(iter(view.overall.items()))
    charts = [
        ("Training loss", "train", "loss", _short, False),
        (f"Validation {name}", "eval", headline, lambda value: f"{value:.3g}", True),
        ("Learning rate", "train", "learning_rate", _exponent, False),
        ("Images per second", "train", "images_per_second", _short, False),
    ]
    cards = []
    for title, kind, key, form, mark in charts:
        points = [(record["step"], record[key]) for record in records if record["kind"] == kind and key in record]
        finite = [point for point in points if known(point[1])]
        notes = [f"last {form(finite[-1][1])}"] if finite else []
        if mark and finite:
            x, y = max(finite, key=lambda point: point[1])
            notes.insert(0, f"best {form(y)} at step {x:,}")
        latest = f' <span class="name">{", ".join(notes)}</span>'
        chart = line_chart(points, label=f"{title} over steps", form=form, mark_best=mark)
        cards.append(f'<div class="card"><h3>{title}{latest}</h3>{chart}</div>')
    grid = f'<div class="charts">{"".join(cards)}</div>'
    return f'<section id="curves"><h2>Training</h2><p class="hint">over steps</p>{grid}</section>'


def _samples(view: View, best: Sequence[Sample], worst: Sequence[Sample], info: DatasetInfo) -> str:
    if not best and not worst:
        return ""
    title = next(iter(view.overall.values()))
    legend = "".join(f"<span>{swatch(colour)}{escape(name)}</span>" for name, colour in view.legend(info))
    parts = [
        f'<section id="samples"><h2>Samples</h2><p class="hint">by their own {title}</p>'
        f'<div class="legend">{legend}</div>'
    ]
    for group, samples in (("Best", best), ("Worst", worst)):
        parts += [f'<h3 class="group">{group}</h3>'] if samples else []
        parts += [_sample(view, sample, info) for sample in samples]
    return "".join([*parts, "</section>"])


def _sample(view: View, sample: Sample, info: DatasetInfo) -> str:
    figures = "".join(
        _figure(picture, sample.name) for picture in view.pictures(sample.image, sample.truth, sample.prediction, info)
    )
    title = next(iter(view.overall.values()))
    score = f"<span>{escape(sample.name)}</span><span>{title} {number(sample.score)}</span>"
    return f'<div class="card sample"><h3>{score}</h3><div class="views">{figures}</div></div>'


def _figure(picture: Picture, name: str) -> str:
    step = max(1, math.ceil(max(picture.pixels.shape[:2]) / LONGEST))
    pixels = picture.pixels[::step, ::step]
    height, width = pixels.shape[:2]
    if picture.photo and step > 1:
        pixels = np.asarray(Image.fromarray(picture.pixels).resize((width, height), Image.Resampling.BOX))
    if picture.photo:
        kind, mime, data = "", "image/jpeg", draw.jpeg_bytes(pixels, quality=88)
    else:
        kind, mime, data = "pixels", "image/png", draw.png_bytes(pixels)
    return (
        f'<figure><img class="{kind}" width="{width}" height="{height}" alt="{picture.title} of {escape(name)}" '
        f'src="data:{mime};base64,{base64.b64encode(data).decode()}"><figcaption>{picture.title}</figcaption></figure>'
    )


def _config(config: Mapping[str, Any] | None) -> str:
    if not config:
        return ""
    groups: dict[str, list[str]] = {"run": []}
    for key, value in config.items():
        if isinstance(value, Mapping):
            groups[key] = [_setting(name, item) for name, item in value.items()]
        else:
            groups["run"].append(_setting(key, value))
    body = "".join(f"<div><h3>{escape(key)}</h3>{''.join(lines)}</div>" for key, lines in groups.items() if lines)
    return (
        '<section id="config"><div class="card"><details><summary>Configuration</summary>'
        f'<div class="config">{body}</div></details></div></section>'
    )


def _versions(results: Mapping[str, Any]) -> str:
    found = results.get("versions") or {}
    text = " · ".join(f"{escape(name)} {escape(version)}" for name, version in found.items())
    return f'<footer id="versions">{text or "versions unknown"}</footer>'


def _setting(key: str, value: Any) -> str:
    return f"<p><code><b>{escape(str(key))}</b> {escape(repr(value))}</code></p>"


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The log's records; none without a log, and not a last line that a kill cut off."""
    records = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
    return records


def _training_seconds(train: Sequence[Mapping[str, Any]]) -> float:
    """The time of all steps, evaluation and checkpoints left out, over however many resumptions."""
    before = [0, *(record["step"] for record in train)]
    return sum((record["step"] - start) * record.get("step_seconds", 0.0) for record, start in zip(train, before))


def _duration(seconds: float) -> str:
    hours, minutes = int(seconds // 3600), int(seconds // 60 % 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _exponent(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-")
