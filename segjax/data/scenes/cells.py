"""Microscope fields: cells with membrane, nucleus and mitochondria over a textured medium crossed by fibres.

Positions are shares of the longer image side about the centre of the field; depths are micrometres under the glass.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from segjax.core.schema import IGNORE
from segjax.data.scenes import labels
from segjax.data.scenes.layers import Canvas, Sketch, finish
from segjax.data.scenes.texture import sample, stream

MEDIUM_DEPTH = 40.0
_ANGLES = 128


@dataclasses.dataclass
class Stain:
    """Colours of one way of looking through a microscope, and how strongly each texture shows."""

    medium: np.ndarray
    cytoplasm: np.ndarray
    membrane: np.ndarray
    nucleus: np.ndarray
    mitochondrion: np.ndarray
    fibre: np.ndarray
    grain: float
    opacity: float
    halo: float


def draw_stain(rng: np.random.Generator) -> Stain:
    """Electron micrograph, fluorescence, haematoxylin-eosin or phase contrast, each with its own spread of tones."""
    kind = rng.choice(4, p=[0.32, 0.26, 0.24, 0.18])
    jitter = rng.uniform(-0.05, 0.05, (6, 1)) + rng.uniform(-0.02, 0.02, (6, 3)) * (kind in (1, 2))
    if kind == 0:
        rows = np.array([0.60, 0.56, 0.24, 0.48, 0.34, 0.32])[:, None] * np.ones(3)
        grain, opacity, halo = 0.17, 0.95, 0.0
    elif kind == 1:
        rows = np.array(
            [
                (0.05, 0.05, 0.07),
                (0.10, 0.30, 0.14),
                (0.30, 0.62, 0.34),
                (0.12, 0.22, 0.52),
                (0.50, 0.40, 0.14),
                (0.40, 0.20, 0.36),
            ]
        )[:, rng.permutation(3)]
        grain, opacity, halo = 0.30, 0.85, 0.0
    elif kind == 2:
        rows = np.array(
            [
                (0.86, 0.74, 0.82),
                (0.80, 0.58, 0.74),
                (0.66, 0.40, 0.62),
                (0.46, 0.30, 0.60),
                (0.60, 0.36, 0.56),
                (0.82, 0.52, 0.66),
            ]
        )
        grain, opacity, halo = 0.12, 0.9, 0.0
    else:
        tint = 1.0 + rng.uniform(-0.12, 0.12, 3)
        rows = np.array([0.50, 0.46, 0.30, 0.40, 0.58, 0.36])[:, None] * tint
        grain, opacity, halo = 0.12, 0.8, 0.30
    rows = np.clip(rows + jitter, 0.02, 0.98).astype(np.float32)
    if kind != 1 and rng.random() < 0.15:
        rows = 1.0 - 0.9 * rows
    return Stain(*rows, grain=grain, opacity=opacity, halo=halo)


@dataclasses.dataclass
class Cell:
    """One cell: outline and nucleus as radius by angle [_ANGLES], mitochondria as rows (x, y, long, short, angle)."""

    instance: int
    x: float
    y: float
    velocity: np.ndarray
    depth: float
    radius: float
    outline: np.ndarray
    nucleus: np.ndarray
    nucleus_at: np.ndarray
    mitochondria: np.ndarray
    style: np.ndarray


def _blob(rng: np.random.Generator, radius: float, roughness: float) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, _ANGLES, endpoint=False)
    order = np.arange(2, 7)[:, None]
    weights = rng.normal(0, roughness, (5, 1)) / (order - 1.0)
    waves = weights * np.cos(order * angle + rng.uniform(0, 2 * np.pi, (5, 1)))
    return (radius * np.maximum(1.0 + waves.sum(0), 0.35)).astype(np.float32)


def draw_cells(rng: np.random.Generator) -> list[Cell]:
    """Scatter cells, mostly touching, some overlapping; the first has the lowest number and lies deepest."""
    size, crowd = rng.uniform(0.085, 0.15), rng.uniform(0.62, 1.05)
    cells: list[Cell] = []
    for _ in range(70):
        if len(cells) >= 26:
            break
        radius = size * rng.uniform(0.75, 1.25)
        x, y = rng.uniform(-0.58, 0.58, 2)
        if any(np.hypot(x - c.x, y - c.y) < crowd * (radius + c.radius) for c in cells):
            continue
        count = int(rng.integers(3, 9))
        where = rng.uniform(0, 2 * np.pi, count)
        out = radius * rng.uniform(0.60, 0.80, count)
        long = radius * rng.uniform(0.12, 0.24, count)
        mitochondria = np.stack(
            [
                out * np.cos(where),
                out * np.sin(where),
                long,
                long * rng.uniform(0.4, 0.6, count),
                rng.uniform(0, 180, count),
            ],
            -1,
        )
        cells.append(
            Cell(
                instance=len(cells) + 1,
                x=float(x),
                y=float(y),
                velocity=rng.normal(0, 0.0035, 2),
                depth=30.0 - len(cells),
                radius=float(radius),
                outline=_blob(rng, radius, 0.09),
                nucleus=_blob(rng, radius * rng.uniform(0.36, 0.48), 0.06),
                nucleus_at=rng.uniform(-0.16, 0.16, 2) * radius,
                mitochondria=mitochondria,
                style=rng.random(8),
            )
        )
    return cells


def _inside(dx: np.ndarray, dy: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Signed distance, roughly, to a blob's outline: positive inside, in the outline's unit."""
    turn = cv2.phase(dx, dy)
    return outline[(turn * (_ANGLES / (2.0 * np.pi))).astype(np.int32) % _ANGLES] - cv2.magnitude(dx, dy)


class Field:
    """Pixels to field coordinates at one frame."""

    def __init__(self, height: int, width: int, shift: np.ndarray, zoom: float):
        self.scale = zoom * max(height, width)
        self.x = ((np.arange(width, dtype=np.float32) + 0.5 - 0.5 * width) / self.scale + np.float32(shift[0]))[None]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5 - 0.5 * height) / self.scale + np.float32(shift[1]))[
            :, None
        ]
        self.origin = np.array([0.5 * width, 0.5 * height]) - shift * self.scale

    def pixel(self, points: np.ndarray) -> np.ndarray:
        return self.origin + np.asarray(points) * self.scale


def _texture(u: np.ndarray, v: np.ndarray, style: np.ndarray) -> np.ndarray:
    a, b = 256.0 * style[0], 256.0 * style[1]
    return 0.6 * sample("grain", u * 190 + a, v * 190 + b) + 0.4 * sample("leaf", u * 260 + b, v * 260 + a)


def _paint_medium(canvas: Canvas, field: Field, stain: Stain, style: np.ndarray) -> None:
    u, v = field.x, field.y
    cloud = sample("cloud", u * 90 + 256 * style[2], v * 90 + 256 * style[3])
    tone = 1.0 + stain.grain * (0.8 * _texture(u, v, style) + 0.7 * cloud)
    canvas.rgb[:] = stain.medium * tone[..., None]
    canvas.label[:] = labels.MEDIUM
    canvas.depth[:] = MEDIUM_DEPTH


def _paint_fibres(
    canvas: Canvas, field: Field, stain: Stain, rng: np.random.Generator, count: int, depth: float
) -> None:
    """Ribbons along random smooth curves, all in one layer."""
    sketch = Sketch(canvas, 0, 0, canvas.width, canvas.height, stain.fibre)
    along = np.linspace(-0.8, 0.8, 33)
    for _ in range(count):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.45, 0.45)
        bend = sum(rng.normal(0, 0.045) / k * np.sin(along * k * 4.0 + rng.uniform(0, 6.3)) for k in (1, 2, 3))
        width = max(rng.uniform(0.010, 0.022), 2.2 / field.scale)
        tone = rng.uniform(0.8, 1.2)
        line = np.stack([along, offset + bend], -1) @ np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        )
        slope = np.gradient(line, axis=0)
        normal = np.stack([-slope[:, 1], slope[:, 0]], -1) / np.maximum(np.hypot(*slope.T), 1e-6)[:, None]
        ribbon = np.concatenate([line + 0.5 * width * normal, (line - 0.5 * width * normal)[::-1]])
        sketch.polygon(field.pixel(ribbon), stain.fibre * tone)
    ripple = 1.0 + 0.6 * stain.grain * sample("grain", field.x * 300, field.y * 300)
    sketch.place((1.0, 1.0, 1.0), depth, labels.FIBRE, 0, ripple[sketch.y0 : sketch.y1, sketch.x0 : sketch.x1])


def _paint_cell(canvas: Canvas, field: Field, stain: Stain, cell: Cell, frame: int) -> None:
    at = np.array([cell.x, cell.y]) + cell.velocity * frame
    reach = 1.1 * float(cell.outline.max())
    low, high = field.pixel(at - reach), field.pixel(at + reach)
    x0, y0 = (max(0, int(np.floor(c))) for c in low)
    x1, y1 = min(canvas.width, int(np.ceil(high[0]))), min(canvas.height, int(np.ceil(high[1])))
    if x0 >= x1 or y0 >= y1:
        return
    box, unit = (y0, y1, x0, x1), 1.0 / field.scale
    dx = np.broadcast_to(field.x[:, x0:x1] - np.float32(at[0]), (y1 - y0, x1 - x0)).copy()
    dy = np.broadcast_to(field.y[y0:y1] - np.float32(at[1]), dx.shape).copy()
    inside = _inside(dx, dy, cell.outline)
    body = np.clip(inside / unit + 0.5, 0.0, 1.0)
    texture = _texture(dx, dy, cell.style)
    relief = 1.0 + stain.grain * texture + 0.25 * (cell.style[2] - 0.5)

    if stain.halo:
        ring = (
            np.exp(-np.square((inside + 0.02) / 0.014))
            * stain.halo
            * (inside < 0)
            * (canvas.depth[y0:y1, x0:x1] > cell.depth)
        )
        canvas.rgb[y0:y1, x0:x1] += ring[..., None]
    owned = body >= 0.5
    rgb = (stain.cytoplasm * relief[..., None]).astype(np.float32)
    canvas.paint(box, body * stain.opacity, rgb, cell.depth, labels.CYTOPLASM, cell.instance, owned=owned)

    nucleus = _inside(dx - np.float32(cell.nucleus_at[0]), dy - np.float32(cell.nucleus_at[1]), cell.nucleus)
    clumps = sample("cloud", dx * 500 + 256 * cell.style[3], dy * 500 + 256 * cell.style[4])
    envelope = np.exp(-np.square((nucleus - unit) / (1.2 * unit + 0.003)))
    tone = 1.0 + stain.grain * (0.7 * texture + 0.9 * clumps) - 0.30 * envelope
    core = np.clip(nucleus / unit + 0.5, 0.0, 1.0) * body
    rgb = (stain.nucleus * tone[..., None]).astype(np.float32)
    nucleolus = np.hypot(dx - cell.nucleus_at[0] - 0.1 * cell.radius, dy - cell.nucleus_at[1]) / (0.12 * cell.radius)
    rgb *= 1.0 - 0.35 * np.clip(1.5 - nucleolus, 0.0, 1.0)[..., None]
    canvas.paint(box, core, rgb, cell.depth - 0.1, labels.NUCLEUS, cell.instance)

    _paint_mitochondria(canvas, field, stain, cell, at, box, inside, nucleus, texture)

    thick = max(0.012, 2.0 * unit)
    ring = body * np.clip((thick - inside) / unit + 0.5, 0.0, 1.0)
    rgb = (stain.membrane * (1.0 + 0.5 * stain.grain * texture)[..., None]).astype(np.float32)
    canvas.paint(box, ring, rgb, cell.depth - 0.3, labels.MEMBRANE, cell.instance)


def _paint_mitochondria(canvas, field, stain, cell: Cell, at, box, inside, nucleus, texture) -> None:
    y0, y1, x0, x1 = box
    mask, folds = np.zeros((2, y1 - y0, x1 - x0), np.uint8)
    for x, y, long, short, angle in cell.mitochondria:
        centre = field.pixel(np.add(at, (x, y))) - (x0 + 0.5, y0 + 0.5)
        where = tuple(int(c) for c in np.round(centre * 16))
        axes = tuple(int(max(1.4, a * field.scale) * 16) for a in (long, short))
        cv2.ellipse(mask, where, axes, float(angle), 0, 360, 255, -1, cv2.LINE_AA, 4)
        turn = np.radians(angle)
        axis, normal = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        for share in (-0.5, 0.0, 0.5):
            ends = [centre + field.scale * (axis * long * share + normal * short * 0.7 * sign) for sign in (-1, 1)]
            p, q = (tuple(int(c) for c in np.round(e * 16)) for e in ends)
            cv2.line(folds, p, q, 255, 1, cv2.LINE_AA, 4)
    cover = mask * np.float32(1 / 255.0) * (inside > 0) * (nucleus < 0)
    tone = (1.0 + 0.7 * stain.grain * texture) * (1.0 + 0.28 * (folds * np.float32(1 / 255.0)))
    rgb = (stain.mitochondrion * tone[..., None]).astype(np.float32)
    canvas.paint(box, cover, rgb, cell.depth - 0.2, labels.MITOCHONDRION, cell.instance)


def _paint_debris(canvas: Canvas, field: Field, stain: Stain, rng: np.random.Generator) -> None:
    """Specks that look like organelles but belong to nothing: they keep the label of what they lie on."""
    sketch = Sketch(canvas, 0, 0, canvas.width, canvas.height, stain.mitochondrion)
    for _ in range(rng.integers(4, 22)):
        centre, radius = rng.uniform(-0.55, 0.55, 2), rng.uniform(0.004, 0.013, 2)
        tone = rng.choice([0.75, 1.0, 1.25])
        sketch.disc(field.pixel(centre), np.maximum(radius * field.scale, 0.8), stain.mitochondrion * tone)
    cover = sketch.patch[..., 3:] * np.float32(0.85 / 255.0)
    window = canvas.rgb[sketch.y0 : sketch.y1, sketch.x0 : sketch.x1]
    window += (sketch.patch[..., :3] * np.float32(1 / 255.0) - window) * cover


def _paint_bubble(canvas: Canvas, field: Field, stain: Stain, rng: np.random.Generator) -> None:
    """Something out of focus in front of everything, which nobody could annotate: void."""
    centre, radius = rng.uniform(-0.45, 0.45, 2), rng.uniform(0.05, 0.11)
    distance = np.hypot(field.x - centre[0], field.y - centre[1]).astype(np.float32) / radius
    alpha = np.clip((1.0 - distance) * 5.0 + 0.5, 0.0, 1.0)
    rgb = (stain.medium * 0.5 + 0.3) * (0.8 + 0.35 * np.square(np.clip(distance, 0.0, 1.0)))[..., None]
    box = (0, canvas.height, 0, canvas.width)
    canvas.paint(box, alpha * 0.75, rgb, 1.0, IGNORE, owned=alpha >= 0.5)


def render_cells(index: int, *, seed: int, height: int, width: int, frame: int, zoom: float) -> dict[str, np.ndarray]:
    """One microscope field; see `segjax.data.scenes.render`."""
    rng = stream(seed, index)
    stain, cells = draw_stain(rng), draw_cells(rng)
    drift = rng.normal(0, 0.004, 2)
    style = rng.random(8)
    deep, shallow = (int(n) for n in rng.integers((2, 0), (6, 4)))
    fog = rng.random() < 0.25
    field = Field(height, width, drift * frame, zoom)
    canvas = Canvas(height, width)
    _paint_medium(canvas, field, stain, style)
    _paint_fibres(canvas, field, stain, stream(seed, index, purpose=3), deep, MEDIUM_DEPTH - 5.0)
    for cell in cells:
        _paint_cell(canvas, field, stain, cell, frame)
    if shallow:
        _paint_fibres(canvas, field, stain, stream(seed, index, purpose=4), shallow, 2.0)
    _paint_debris(canvas, field, stain, stream(seed, index, purpose=5))
    if fog:
        _paint_bubble(canvas, field, stain, stream(seed, index, purpose=6))

    lens = stream(seed, index, purpose=1)
    slope = lens.uniform(-0.35, 0.35, 2)
    screen_x = field.x - field.x.mean()
    screen_y = field.y - field.y.mean()
    canvas.rgb *= (1.0 + slope[0] * screen_x + slope[1] * screen_y).astype(np.float32)[..., None]
    unit = (height * width / (128 * 160)) ** 0.5
    settings = {
        "gain": lens.uniform(0.80, 1.20) * (1.0 + lens.uniform(-0.04, 0.04, 3)),
        "vignette": lens.uniform(0.0, 0.3),
        "blur": unit * lens.choice([0.0, 0.4, 0.8], p=[0.3, 0.4, 0.3]),
        "noise": lens.uniform(0.01, 0.05),
        "gamma": lens.uniform(0.75, 1.25),
    }
    image = finish(canvas.rgb, stream(seed, index, frame=frame, purpose=2), **settings)

    velocity = np.zeros((len(cells) + 1, 2), np.float32)
    for cell in cells:
        velocity[cell.instance] = cell.velocity
    flow = (velocity[canvas.instance] - drift.astype(np.float32)) * np.float32(field.scale)
    return {
        "image": image,
        "label": canvas.label,
        "instance": canvas.instance,
        "depth": canvas.depth,
        "flow": flow,
    }
