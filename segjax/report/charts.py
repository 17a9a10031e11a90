"""Charts as inline SVG text, coloured by the page's CSS variables, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 26
MOST_POINTS = 400
MARKED = 40  # up to so many points are drawn as dots that tell their value

Points = Sequence[tuple[float, float]]


def line_chart(points: Points, *, label: str, form: Callable[[float], str], mark_best: bool = False) -> str:
    """One series over steps.

    Args:
      points: (step, value), steps ascending; values that are not finite are left out.
      label: what screen readers say.
      form: how a value is written.
      mark_best: put a ring around the largest.
    """
    points = thin([(x, y) for x, y in points if y is not None and math.isfinite(y)])
    if not points:
        return '<p class="none">nothing recorded</p>'
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_ticks, y_ticks = ticks(min(0.0, xs[0]), xs[-1], 4), ticks(min(ys), max(ys), 4)
    low, high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))
    first, last = min(0.0, xs[0]), max(xs[-1], 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        right = LEFT + (x - first) / ((last - first) or 1) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)
        return right, down

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">']
    for y in y_ticks:
        _, down = place(first, y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{down + 3.5:.1f}" text-anchor="end">{form(y)}</text>')
    for x in x_ticks:
        if x <= last:
            right, _ = place(x, low)
            anchor = "end" if right > WIDTH - RIGHT - 14 else "middle"
            parts.append(
                f'<text class="tick" x="{right:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{steps(x)}</text>'
            )
    path = " ".join(f"{right:.1f},{down:.1f}" for right, down in (place(x, y) for x, y in points))
    parts.append(f'<polyline class="line" points="{path}"/>')
    if len(points) <= MARKED:
        for x, y in points:
            right, down = place(x, y)
            parts.append(
                f'<circle class="dot" cx="{right:.1f}" cy="{down:.1f}" r="2.4">'
                f"<title>step {x:g}: {form(y)}</title></circle>"
            )
    if mark_best:
        x, y = max(points, key=lambda point: point[1])
        right, down = place(x, y)
        parts.append(
            f'<circle class="best" cx="{right:.1f}" cy="{down:.1f}" r="4.5">'
            f"<title>best: {form(y)} at step {x:g}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def heat_map(matrix: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], label: str) -> str:
    """Shares 0..1 (None: the row is empty) as shaded cells with their percents."""
    left = 12 + 6.6 * max(len(name) for name in rows)
    cell = int(min(max((940 - left) / len(columns), 20), 58))
    top = 14 + 4.9 * max(len(name) for name in columns)
    width, height = left + cell * len(columns) + 46, top + cell * len(rows) + 4
    parts = [
        f'<svg class="heat" width="{width:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(label)}">'
    ]
    for j, name in enumerate(columns):
        x = left + cell * (j + 0.5)
        parts.append(
            f'<text class="axis" transform="translate({x:.1f} {top - 6:.1f}) rotate(-45)">{escape(name)}</text>'
        )
    for i, (name, row) in enumerate(zip(rows, matrix)):
        y = top + cell * i
        parts.append(
            f'<text class="axis" x="{left - 8:.1f}" y="{y + cell / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>'
        )
        for j, share in enumerate(row):
            x = left + cell * j
            known = share is not None
            title = f"{name} seen as {columns[j]}: {share:.1%}" if known else f"{name} is in no truth"
            parts.append(
                f'<g><title>{escape(title)}</title><rect class="back" x="{x:.1f}" y="{y:.1f}" width="{cell - 2}" '
                f'height="{cell - 2}" rx="3"/>'
            )
            if known and share > 0:
                parts.append(
                    f'<rect class="{"hit" if i == j else "miss"}" x="{x:.1f}" y="{y:.1f}" width="{cell - 2}" '
                    f'height="{cell - 2}" rx="3" fill-opacity="{share**0.7:.3f}"/>'
                )
            if known and cell > 30 and share >= 0.005:
                strong = " strong" if share > 0.45 else ""
                parts.append(
                    f'<text class="value{strong}" x="{x + cell / 2 - 1:.1f}" y="{y + cell / 2 + 3:.1f}" '
                    f'text-anchor="middle">{100 * share:.0f}</text>'
                )
            parts.append("</g>")
    return "".join([*parts, "</svg>"])


def bar(value: float | None, text: str) -> str:
    """A number with a bar of length 0..1 behind it."""
    if value is None or not math.isfinite(value):
        return '<td class="num">–</td>'
    length = 100 * min(max(value, 0), 1)
    return f'<td class="num"><span class="bar" style="--v:{length:.1f}%"></span><span>{escape(text)}</span></td>'


def thin(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` points: each the mean of as many neighbours; the last one is kept."""
    if len(points) <= most:
        return list(points)
    size = math.ceil((len(points) - 1) / (most - 1))
    groups = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
    return [*means, points[-1]]


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers that span [low, high], about `count` steps apart."""
    if high <= low:
        pad = abs(high) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    start = math.floor(low / step + 1e-9)
    return [step * k for k in range(start, math.ceil(high / step - 1e-9) + 1)]


def steps(value: float) -> str:
    """1500 -> `1.5k`."""
    return f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
