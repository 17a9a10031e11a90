"""Upright things: people, cyclists, cars, trees, lamps, signs, litter bins. All face the camera but cars are solid."""

from __future__ import annotations

import cv2
import numpy as np

from segjax.core.schema import IGNORE
from segjax.data.scenes import labels
from segjax.data.scenes.layers import Camera, Canvas, Sketch
from segjax.data.scenes.layout import Light, Thing
from segjax.data.scenes.surfaces import LEAVES, pick
from segjax.data.scenes.texture import sample

CLOTHES = (
    (0.16, 0.17, 0.20),
    (0.24, 0.28, 0.40),
    (0.46, 0.44, 0.42),
    (0.72, 0.70, 0.66),
    (0.62, 0.20, 0.18),
    (0.26, 0.40, 0.22),
    (0.22, 0.36, 0.58),
    (0.74, 0.60, 0.20),
    (0.48, 0.34, 0.24),
    (0.80, 0.42, 0.16),
)
SKIN = ((0.82, 0.64, 0.52), (0.66, 0.48, 0.36), (0.44, 0.30, 0.22), (0.74, 0.56, 0.44))
COATS = (
    (0.70, 0.70, 0.70),
    (0.36, 0.37, 0.39),
    (0.14, 0.14, 0.16),
    (0.82, 0.82, 0.80),
    (0.58, 0.14, 0.14),
    (0.16, 0.26, 0.52),
    (0.24, 0.38, 0.24),
    (0.50, 0.40, 0.28),
    (0.70, 0.56, 0.20),
    (0.46, 0.58, 0.66),
)


def _foot(camera: Camera, thing: Thing) -> tuple[np.ndarray, float, float]:
    """Pixel position of a thing's foot, pixels a metre there, and its depth."""
    pixel, depth = camera.project(np.array([thing.x, 0.0, thing.z]))
    return pixel, camera.focal / max(float(depth), 0.1), float(depth)


def _roundness(sketch: Sketch, light: Light, camera: Camera) -> np.ndarray:
    """Light across an upright round figure: brighter on the sun's side; [h, w] by broadcasting."""
    width = sketch.x1 - sketch.x0
    right = light.towards[0] * camera.cos - light.towards[2] * camera.sin
    ramp = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    return 1.0 + (0.28 * right * float(light.sun.max())) * ramp


def draw_person(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    size = (1.05 + 0.3 * s[1]) if s[0] < 0.12 else 1.58 + 0.34 * s[1]
    k = size / 1.75
    sketch = Sketch.standing(canvas, foot, scale, -0.75 * k, 0.75 * k, size + 0.25, pick(CLOTHES, s[2]))
    if sketch.empty:
        return
    top, low, skin = (
        pick(CLOTHES, s[2]) * (0.8 + 0.4 * s[3]),
        pick(CLOTHES, s[4]) * (0.6 + 0.4 * s[5]),
        pick(SKIN, s[6]),
    )
    mirror = -1.0 if s[7] < 0.5 else 1.0

    def at(*points):
        return [(x * k * mirror, y * k) for x, y in points]

    stride = 0.05 + 0.27 * s[8]
    shoe = np.array([0.12, 0.11, 0.11])
    sketch.stroke(at((-0.06, 0.86), (-0.5 * stride - 0.05, 0.46), (-stride, 0.06)), 0.15 * k, low * 0.8)
    sketch.stroke(at((0.06, 0.86), (0.7 * stride + 0.04, 0.46), (stride, 0.06)), 0.15 * k, low)
    for x in (-stride, stride):
        sketch.stroke(at((x - 0.06, 0.04), (x + 0.12, 0.04)), 0.09 * k, shoe)
    swing = 0.08 + 0.22 * s[9]
    sketch.stroke(at((-0.19, 1.40), (-0.24, 1.12), (-0.2 - swing, 0.86)), 0.10 * k, top * 0.8)
    if s[10] < 0.3:
        sketch.polygon(at((-0.17, 0.95), (-0.27, 0.48), (0.27, 0.48), (0.17, 0.95)), low if s[10] < 0.15 else top)
    sketch.polygon(at((-0.17, 0.82), (-0.23, 1.36), (-0.12, 1.47), (0.12, 1.47), (0.23, 1.36), (0.17, 0.82)), top)
    sketch.stroke(at((0.19, 1.40), (0.25, 1.12), (0.2 + swing, 0.90)), 0.10 * k, top * 0.9)
    sketch.disc(at((0.2 + swing, 0.87))[0], (0.05 * k, 0.05 * k), skin)
    if s[11] < 0.3:
        sketch.polygon(at((0.14, 0.62), (0.14, 0.9), (0.42, 0.9), (0.42, 0.62)), pick(CLOTHES, s[12]))
    elif s[11] < 0.5:
        sketch.polygon(at((-0.34, 0.98), (-0.36, 1.4), (-0.14, 1.42), (-0.14, 0.98)), pick(CLOTHES, s[12]))
    sketch.polygon(at((-0.05, 1.44), (-0.05, 1.54), (0.05, 1.54), (0.05, 1.44)), skin * 0.85)
    sketch.disc(at((0.0, 1.62))[0], (0.10 * k, 0.13 * k), skin)
    hair = pick(((0.12, 0.09, 0.08), (0.34, 0.24, 0.14), (0.62, 0.52, 0.34), (0.5, 0.5, 0.5)), s[13])
    sketch.polygon(
        at((-0.11, 1.60), (-0.11, 1.70), (-0.05, 1.77), (0.05, 1.77), (0.10, 1.71), (0.09, 1.66), (-0.03, 1.68)), hair
    )
    sketch.place(shade, depth, labels.PERSON, thing.instance, _roundness(sketch, light, camera))


def draw_cyclist(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    top, low, skin = (
        pick(CLOTHES, s[2]) * (0.8 + 0.4 * s[3]),
        pick(CLOTHES, s[4]) * (0.6 + 0.4 * s[5]),
        pick(SKIN, s[6]),
    )
    sketch = Sketch.standing(canvas, foot, scale, -1.1, 1.1, 1.95, top)
    if sketch.empty:
        return
    frame, tyre = pick(COATS, s[7]), np.array([0.10, 0.10, 0.11])
    helmet = pick(COATS, s[8]) if s[9] < 0.6 else np.array([0.16, 0.12, 0.10])
    if abs(thing.velocity[0]) > 0.1:
        mirror = 1.0 if thing.velocity[0] > 0 else -1.0

        def at(*points):
            return [(x * mirror, y) for x, y in points]

        for x in (-0.53, 0.53):
            sketch.disc(at((x, 0.35))[0], (0.33, 0.33), tyre, ring=0.06)
        sketch.stroke(at((-0.06, 0.34), (0.02, 0.10), (0.12, 0.10)), 0.12, low * 0.7)
        sketch.stroke(at((-0.53, 0.35), (-0.05, 0.32), (0.42, 0.78), (-0.18, 0.80), (-0.53, 0.35)), 0.06, frame)
        sketch.stroke(at((-0.18, 0.80), (-0.05, 0.32)), 0.06, frame)
        sketch.stroke(at((0.53, 0.35), (0.40, 0.98), (0.50, 1.02)), 0.06, frame)
        sketch.stroke(at((-0.20, 0.94), (0.16, 0.68), (0.02, 0.26), (0.14, 0.24)), 0.15, low)
        sketch.polygon(at((-0.34, 0.90), (-0.22, 1.22), (0.06, 1.50), (0.22, 1.42), (0.06, 1.12), (-0.10, 0.88)), top)
        sketch.stroke(at((0.12, 1.40), (0.22, 1.12), (0.46, 1.03)), 0.10, top * 0.9)
        sketch.disc(at((0.26, 1.60))[0], (0.11, 0.13), skin)
        sketch.polygon(at((0.11, 1.62), (0.14, 1.74), (0.26, 1.78), (0.38, 1.70), (0.36, 1.65)), helmet)
    else:
        away = thing.velocity[1] > 0
        sketch.disc((0.0, 0.35), (0.06, 0.34), tyre)
        sketch.stroke([(0.0, 0.3), (0.0, 0.9)], 0.07, frame)
        sketch.stroke([(-0.30, 1.0), (0.30, 1.0)], 0.06, frame * 0.7)
        sketch.stroke([(-0.11, 0.92), (-0.15, 0.60), (-0.12, 0.34)], 0.15, low)
        sketch.stroke([(0.11, 0.92), (0.16, 0.72), (0.12, 0.20)], 0.15, low * 0.85)
        for side in (-1, 1):
            sketch.stroke([(0.2 * side, 1.42), (0.31 * side, 1.18), (0.27 * side, 1.0)], 0.10, top * 0.85)
        sketch.polygon([(-0.18, 0.88), (-0.23, 1.36), (-0.10, 1.5), (0.10, 1.5), (0.23, 1.36), (0.18, 0.88)], top)
        sketch.disc((0.0, 1.62), (0.10, 0.13), helmet if away else skin)
        sketch.polygon([(-0.12, 1.64), (-0.08, 1.77), (0.08, 1.77), (0.12, 1.64)], helmet)
    sketch.place(shade, depth, labels.CYCLIST, thing.instance, _roundness(sketch, light, camera))


# Side outlines (along the car, up), as shares of length and height, from the bottom at the tail round to the nose; and
# what each edge of the outline is: 0 body, 1 glass, 2 roof, 3 tail with its lamps, 4 nose with its lamps.
_SALOON = (
    (
        (-0.5, 0.18),
        (-0.5, 0.52),
        (-0.46, 0.62),
        (-0.34, 0.64),
        (-0.22, 0.98),
        (0.10, 1.0),
        (0.26, 0.66),
        (0.48, 0.54),
        (0.5, 0.18),
    ),
    (3, 0, 0, 1, 2, 1, 0, 4),
)
_HATCH = (
    ((-0.5, 0.18), (-0.5, 0.56), (-0.48, 0.64), (-0.40, 0.97), (0.08, 1.0), (0.25, 0.66), (0.48, 0.54), (0.5, 0.18)),
    (3, 0, 1, 2, 1, 0, 4),
)
_BOX = (
    ((-0.5, 0.14), (-0.5, 0.55), (-0.49, 0.97), (-0.46, 1.0), (0.40, 1.0), (0.46, 0.56), (0.5, 0.46), (0.5, 0.14)),
    (3, 1, 0, 2, 1, 0, 4),
)


def draw_car(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    s = thing.style
    tall = s[0] < 0.22
    if tall:
        outline, faces = _BOX
        length, width, height = 4.8 + 3.5 * s[1] ** 2, 1.9 + 0.4 * s[2], 2.0 + 1.0 * s[3]
    else:
        outline, faces = _SALOON if s[0] < 0.6 else _HATCH
        length, width, height = 3.7 + 0.9 * s[1], 1.66 + 0.2 * s[2], 1.40 + 0.22 * s[3]
    forward = 1.0 if thing.velocity[1] > 0 or (thing.velocity[1] == 0 and s[4] < 0.65) else -1.0
    profile = np.array(outline) * (length, height)
    narrow = np.where(np.array(outline)[:, 1] > 0.8, 0.90 if tall else 0.80, 1.0) * 0.5 * width
    wheels = np.array([[-0.31 * length, 0.0], [0.31 * length, 0.0]])
    turn = np.linspace(0, 2 * np.pi, 13)[:-1]
    radius = 0.31 if not tall else 0.38
    rim = np.stack([np.cos(turn), np.sin(turn)], -1) * radius

    def place(along, up, across):
        return np.stack([thing.x + across * forward, up, thing.z + along * forward], -1)

    sides = [place(profile[:, 0], profile[:, 1], side * narrow) for side in (-1, 1)]
    circles = [
        place(rim[:, 0] + w[0], rim[:, 1] + radius, np.full(12, side * (0.5 * width + 0.01)))
        for side in (-1, 1)
        for w in wheels
    ]
    solid, depths = camera.project(np.concatenate(sides + circles))
    nearest = float(depths.min())
    if nearest < 2.0:
        return
    n = len(outline)
    flat = [solid[:n], solid[n : 2 * n]]
    corner = np.concatenate(flat)
    coat = pick(COATS, s[5]) * (0.75 + 0.4 * s[6])
    low, high = solid.min(0), solid.max(0)
    sketch = Sketch(canvas, low[0], low[1], high[0], high[1], coat)
    if sketch.empty:
        return
    glass = np.clip(0.10 + 0.30 * s[7] * (light.haze * 0.8 + 0.1), 0, 1)
    hull = cv2.convexHull(np.concatenate([corner, solid[2 * n :]]).astype(np.float32))[:, 0]
    below = np.array([0.07, 0.07, 0.08])
    sketch.polygon(hull if tall else np.concatenate([flat[0], flat[1][::-1]]), below)
    visible_side = 1 if (thing.x - camera.position[0]) * forward < 0 else 0
    order = range(n - 1) if forward > 0 else range(n - 2, -1, -1)
    strips = sorted(order, key=lambda i: -float(depths[[i, i + 1, n + i, n + i + 1]].mean()))
    for i in strips:
        quad = np.array([flat[0][i], flat[0][i + 1], flat[1][i + 1], flat[1][i]])
        if _facing(quad) <= 0:
            continue
        kind = faces[i]
        tone = {0: 1.08, 1: 1.0, 2: 1.15, 3: 0.86, 4: 0.92}[kind]
        sketch.polygon(quad, np.clip(coat * tone, 0, 1))
        if kind == 1:
            sketch.polygon(_inset(quad, 0.10, 0.10), glass)
        elif kind >= 3:
            _end(sketch, quad, kind == 3, light.night, s)
    if abs(thing.x - camera.position[0]) > 0.5 * width:
        side = flat[visible_side]
        sketch.polygon(side, np.clip(coat * (0.95 if not tall else 1.0), 0, 1))
        if not tall or s[8] < 0.5:
            roof = [i for i in range(n) if outline[i][1] > 0.9]
            a, b = roof[0], roof[-1]
            window = np.array([side[a - 1], side[a], side[b], side[b + 1]])
            sketch.polygon(_inset(window, 0.07, 0.13), glass * 0.9)
            middle = 0.5 * (window[0] + window[3]), 0.5 * (window[1] + window[2])
            sketch.stroke(middle, max(1.0, 0.012 * abs(side[0, 0] - side[-1, 0])), coat * 0.9)
        for w in (0, 1):
            circle = solid[2 * n + (visible_side * 2 + w) * 12 :][:12]
            sketch.polygon(circle, (0.06, 0.06, 0.07))
            sketch.polygon(circle.mean(0) + (circle - circle.mean(0)) * 0.55, (0.42, 0.42, 0.44))
    ramp = np.linspace(1.12, 0.86, sketch.y1 - sketch.y0, dtype=np.float32)[:, None]
    sketch.place(shade, nearest, labels.VEHICLE, thing.instance, ramp + np.zeros((1, 1), np.float32))


def _facing(polygon: np.ndarray) -> float:
    """Twice the signed area of an image polygon; positive one way round, negative the other."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _inset(quad: np.ndarray, ends: float, sides: float) -> np.ndarray:
    """A quadrilateral shrunk by shares of its first edge (`ends`) and of its second (`sides`)."""

    def point(a, b):
        lower = quad[0] + (quad[3] - quad[0]) * b
        upper = quad[1] + (quad[2] - quad[1]) * b
        return lower + (upper - lower) * a

    return np.array([point(ends, sides), point(1 - ends, sides), point(1 - ends, 1 - sides), point(ends, 1 - sides)])


def _end(sketch: Sketch, quad: np.ndarray, tail: bool, night: bool, style: np.ndarray) -> None:
    """Lamps, plate and bumper on the tail or the nose; the quad's first edge runs up or down one side."""
    if quad[0, 1] < quad[1, 1]:
        quad = quad[[1, 0, 3, 2]]

    def patch(a0, a1, b0, b1, colour):
        def point(a, b):
            return (quad[0] + (quad[3] - quad[0]) * b) * (1 - a) + (quad[1] + (quad[2] - quad[1]) * b) * a

        sketch.polygon([point(a0, b0), point(a1, b0), point(a1, b1), point(a0, b1)], colour)

    patch(0.0, 0.28, 0.0, 1.0, (0.16, 0.16, 0.17))
    lamp = (0.80 if night else 0.62, 0.08, 0.07) if tail else ((1.0, 0.96, 0.8) if night else (0.82, 0.84, 0.84))
    patch(0.58, 0.88, 0.03, 0.20, lamp)
    patch(0.58, 0.88, 0.80, 0.97, lamp)
    patch(0.34, 0.56, 0.36, 0.64, (0.80, 0.78, 0.60 + 0.2 * style[9]))
    if not tail:
        patch(0.40, 0.80, 0.26, 0.74, (0.14, 0.14, 0.15))


def draw_tree(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    conifer = s[0] < 0.22
    height = 4.0 + 5.0 * s[1]
    spread = height * (0.20 + 0.08 * s[2] if conifer else 0.30 + 0.16 * s[2])
    start = height * (0.10 if conifer else 0.24 + 0.14 * s[3])
    bark = pick(((0.30, 0.24, 0.18), (0.36, 0.34, 0.30), (0.22, 0.18, 0.15)), s[4])
    sketch = Sketch.standing(canvas, foot, scale, -1.15 * spread, 1.15 * spread, 1.08 * height, bark)
    if sketch.empty:
        return
    thick = 0.16 + 0.16 * s[5]
    lean = 0.3 * (s[6] - 0.5)
    sketch.polygon(
        [
            (-0.6 * thick, 0),
            (-0.35 * thick + lean, height * 0.6),
            (0.35 * thick + lean, height * 0.6),
            (0.6 * thick, 0),
        ],
        bark,
    )
    for i in range(3):
        reach = spread * (0.35 + 0.25 * s[7 + i]) * (-1 if i % 2 else 1)
        base = start * (0.85 + 0.25 * i)
        sketch.stroke([(lean * 0.5, base), (reach, base + 0.22 * height)], 0.08, bark * 0.9)
    sketch.place(shade, depth, labels.VEGETATION, 0, _roundness(sketch, light, camera))

    x = ((np.arange(sketch.x0, sketch.x1, dtype=np.float32) + 0.5 - foot[0]) / scale)[None]
    y = ((foot[1] - np.arange(sketch.y0, sketch.y1, dtype=np.float32) - 0.5) / scale)[:, None]
    middle, half = 0.5 * (start * 0.85 + height), 0.5 * (height - start * 0.85)
    if conifer:
        body = 1.0 - np.abs(x - lean) / (spread * np.clip((height - y) / (height - start), 0.02, 1.0)) - (y < start)
        body = np.clip(body, -1.0, 1.0)
    else:
        body = 1.0 - np.square((x - lean) / spread) - np.square((y - middle) / half)
    shift = 256.0 * s[10:14]
    clump = sample("cloud", x * 12 + shift[0], y * 12 + shift[1])
    leaf = sample("leaf", x * 22 + shift[2], y * 22 + shift[3])
    close = min(max(scale / 40.0 - 0.4, 0.0), 0.8)
    if close:
        leaf = (leaf + close * sample("leaf", x * 95, y * 95)) / (1.0 + close * close) ** 0.5
    field = body * (1.5 if conifer else 1.2) + 0.30 * clump + 0.32 * leaf
    alpha = np.clip((field - 0.20 - 0.25 * (s[14] < 0.25)) * min(0.12 * scale, 4.0) + 0.5, 0.0, 1.0)
    right = light.towards[0] * camera.cos - light.towards[2] * camera.sin
    strength = float(light.sun.max())
    tone = (
        0.88 + 0.20 * leaf + 0.12 * clump + (y - middle) / half * 0.22 + 0.22 * strength * right * (x - lean) / spread
    )
    rgb = pick(LEAVES, s[15]) * (0.8 + 0.5 * s[16]) * np.maximum(tone, 0.25)[..., None] * shade
    outline = cv2.blur(alpha, (3, 3))
    box = (sketch.y0, sketch.y1, sketch.x0, sketch.x1)
    rgb = rgb.astype(np.float32)
    canvas.paint(
        box, alpha, rgb, depth - 0.05, labels.VEGETATION, owned=outline > 0.6, unsure=np.abs(outline - 0.5) <= 0.1
    )


def draw_lamp(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    height = 4.5 + 3.5 * s[0]
    arm = (0.0, 1.1, 1.8)[min(2, int(3 * s[1]))] * (-1.0 if thing.x > camera.position[0] else 1.0)
    colour = pick(
        ((0.34, 0.35, 0.36), (0.16, 0.17, 0.17), (0.52, 0.52, 0.50), (0.30, 0.36, 0.32), (0.42, 0.32, 0.22)), s[2]
    )
    sketch = Sketch.standing(canvas, foot, scale, min(arm, 0.0) - 0.4, max(arm, 0.0) + 0.4, height + 0.4, colour)
    if sketch.empty:
        return
    sketch.stroke([(0, 0), (0, height)], 0.15, colour)
    sketch.stroke([(0, 0), (0, 0.9)], 0.22, colour * 0.9)
    glow = (1.0, 0.92, 0.66) if light.night else (0.78, 0.78, 0.76)
    if arm:
        sketch.stroke([(0, height - 0.3), (0.4 * arm, height + 0.1), (arm, height + 0.1)], 0.10, colour)
        sketch.stroke([(0.72 * arm, height + 0.05), (arm, height + 0.05)], 0.16, colour * 0.8)
        sketch.stroke([(0.76 * arm, height - 0.02), (arm, height - 0.02)], 0.08, glow)
    else:
        sketch.disc((0, height + 0.1), (0.2, 0.22), glow)
    sketch.place(shade, depth, labels.POLE, 0)


def draw_sign(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    signal = s[0] < 0.28
    height = 2.2 + 0.7 * s[1] + (0.5 if signal else 0.0)
    colour = pick(((0.46, 0.46, 0.46), (0.30, 0.31, 0.32), (0.62, 0.62, 0.60)), s[2])
    mast = Sketch.standing(canvas, foot, scale, -0.3, 0.3, height, colour)
    if not mast.empty:
        mast.stroke([(0, 0), (0, height)], 0.11, colour)
        mast.place(shade, depth, labels.POLE, 0)
    radius = 0.34 + 0.16 * s[3]
    plate = Sketch.standing(canvas, foot, scale, -1.4 * radius, 1.4 * radius, height + 2.4 * radius, (0.5, 0.5, 0.5))
    if plate.empty:
        return
    y = height + 0.4 * radius
    white, red, blue, black = (0.86, 0.86, 0.84), (0.68, 0.12, 0.12), (0.14, 0.28, 0.60), (0.10, 0.10, 0.10)
    kind = int(s[4] * 6)
    if signal:
        w, h = 0.24, 0.5
        plate.polygon([(-w, y - h), (w, y - h), (w, y + h), (-w, y + h)], black)
        on = int(s[5] * 3)
        for i, lamp in enumerate(((0.9, 0.14, 0.1), (0.95, 0.66, 0.1), (0.15, 0.85, 0.4))):
            plate.disc((0, y + 0.31 - 0.31 * i), (0.12, 0.12), np.array(lamp) * (1.0 if on == i else 0.25))
        shade = np.maximum(shade, 0.55)
    elif kind == 0:
        plate.polygon(
            [(-1.15 * radius, y - 0.7 * radius), (1.15 * radius, y - 0.7 * radius), (0, y + 1.2 * radius)], red
        )
        plate.polygon(
            [(-0.75 * radius, y - 0.46 * radius), (0.75 * radius, y - 0.46 * radius), (0, y + 0.78 * radius)], white
        )
        plate.stroke([(0, y - 0.3 * radius), (0, y + 0.35 * radius)], 0.09, black)
    elif kind in (1, 2):
        plate.disc((0, y), (radius, radius), red)
        if kind == 1:
            plate.disc((0, y), (0.72 * radius, 0.72 * radius), white)
            plate.stroke([(-0.35 * radius, y), (0.35 * radius, y)], 0.16, black)
        else:
            plate.polygon(
                [
                    (-0.6 * radius, y - 0.15 * radius),
                    (0.6 * radius, y - 0.15 * radius),
                    (0.6 * radius, y + 0.15 * radius),
                    (-0.6 * radius, y + 0.15 * radius),
                ],
                white,
            )
    else:
        wide = radius * (0.85, 1.3, 0.85)[kind - 3]
        back = (blue, (0.16, 0.42, 0.26), (0.80, 0.66, 0.16))[kind - 3]
        plate.polygon(
            [
                (-wide, y - radius * 0.85),
                (wide, y - radius * 0.85),
                (wide, y + radius * 0.85),
                (-wide, y + radius * 0.85),
            ],
            white,
        )
        i, j = wide - 0.06, radius * 0.85 - 0.06
        plate.polygon([(-i, y - j), (i, y - j), (i, y + j), (-i, y + j)], back)
        plate.stroke([(-0.5 * wide, y - 0.2 * radius), (0.5 * wide, y + 0.3 * radius)], 0.10, white)
        plate.stroke([(-0.5 * wide, y + 0.3 * radius), (0.1 * wide, y + 0.3 * radius)], 0.08, white)
    plate.place(np.maximum(shade, 0.28), depth - 0.05, labels.SIGN, thing.instance)


def draw_bin(canvas: Canvas, camera: Camera, thing: Thing, shade, light: Light) -> None:
    """A litter bin, a bollard or a cabinet: something that no class covers, so void."""
    foot, scale, depth = _foot(camera, thing)
    s = thing.style
    w, h = 0.14 + 0.3 * s[0], 0.7 + 0.6 * s[1]
    colour = pick(COATS, s[2]) * 0.8
    sketch = Sketch.standing(canvas, foot, scale, -w - 0.1, w + 0.1, h + 0.1, colour)
    if sketch.empty:
        return
    sketch.polygon([(-w, 0), (-w, h), (w, h), (w, 0)], colour)
    sketch.polygon([(-w - 0.04, h - 0.12), (-w - 0.04, h), (w + 0.04, h), (w + 0.04, h - 0.12)], colour * 0.6)
    sketch.place(shade, depth, IGNORE, 0, _roundness(sketch, light, camera))


DRAW = {
    "person": (draw_person, 1.75, 0.5),
    "cyclist": (draw_cyclist, 1.75, 0.9),
    "car": (draw_car, 1.5, 1.8),
    "tree": (draw_tree, 6.0, 3.0),
    "lamp": (draw_lamp, 6.0, 0.2),
    "sign": (draw_sign, 2.8, 0.3),
    "bin": (draw_bin, 1.0, 0.5),
}
"""kind -> (drawing function, height and width in metres of the shadow it casts)."""
