"""Sky, ground, skyline, fences: the large surfaces, coloured pixel by pixel from world coordinates."""

from __future__ import annotations

import numpy as np

from segjax.data.scenes import labels
from segjax.data.scenes.layers import FAR, Camera, Canvas
from segjax.data.scenes.layout import AHEAD, BEHIND, Barrier, Light, Street
from segjax.data.scenes.texture import cell_value, sample, stripe

WALLS = (
    (0.55, 0.30, 0.24),
    (0.62, 0.42, 0.30),
    (0.74, 0.66, 0.52),
    (0.80, 0.78, 0.74),
    (0.52, 0.52, 0.54),
    (0.42, 0.40, 0.40),
    (0.66, 0.58, 0.46),
    (0.44, 0.52, 0.46),
    (0.50, 0.58, 0.66),
    (0.74, 0.56, 0.48),
)
LEAVES = (
    (0.24, 0.40, 0.14),
    (0.32, 0.44, 0.18),
    (0.18, 0.32, 0.16),
    (0.46, 0.44, 0.16),
    (0.58, 0.36, 0.14),
    (0.36, 0.34, 0.26),
)


def pick(table, u: float) -> np.ndarray:
    """The row of a colour table that a uniform number chooses."""
    return np.array(table[min(int(u * len(table)), len(table) - 1)], np.float32)


def paint_sky(canvas: Canvas, camera: Camera, light: Light, style: np.ndarray) -> None:
    """A gradient from haze to zenith, the sun's glow and clouds on a plane overhead; it lies at FAR and never moves."""
    rows = int(np.clip(np.ceil(camera.horizon) + 2, 0, canvas.height))
    if rows == 0:
        return
    up = np.maximum(camera.up[:rows, None], 0.0)
    blend = np.clip(up * 1.6, 0.0, 1.0) ** 0.6
    rgb = light.haze + (light.zenith - light.haze) * blend[..., None]
    along = np.broadcast_to(camera.ray_z[None], (rows, canvas.width))
    length = np.sqrt(1.0 + np.square(camera.across)[None] + up * up)
    cosine = (camera.ray_x[None] * light.towards[0] + up * light.towards[1] + along * light.towards[2]) / length
    rgb = rgb + light.sun * (0.5 * np.clip(cosine, 0.0, 1.0) ** 12)[..., None]
    spread = (30.0 + 40.0 * style[0]) / (up + 0.16)
    u, v = camera.ray_x[None] * spread, along * spread
    noise = sample("cloud", u + 255 * style[1], v + 255 * style[2]) + 0.35 * sample("leaf", u * 0.5, v * 0.5)
    cover = np.clip((noise + light.cloud * 1.4) * 0.55, 0.0, 0.92)
    white = (0.55 * light.haze + 0.5 * light.sun + 0.24 * (1.0 if not light.night else 0.1)) * 0.85
    tone = white * (1.0 - 0.25 * np.clip(noise - 0.4, -0.6, 1.0))[..., None]
    rgb += (tone - rgb) * cover[..., None]
    canvas.rgb[:rows] = rgb
    canvas.label[:rows] = labels.SKY


def paint_backdrop(canvas: Canvas, camera: Camera, light: Light, style: np.ndarray) -> None:
    """Far roofs or trees along the horizon, on the plane where the street ends."""
    found = camera.wall(2, AHEAD + 40.0, -1e4, 1e4)
    if found is None:
        return
    columns, depth, along = found
    trees = style[3] < 0.45
    if trees:
        height = (
            5.0
            + 2.5 * sample("cloud", along * 1.5, np.float32([200 * style[4]]))
            + sample("leaf", along * 4, np.float32([3]))
        )
        colour, label = pick(LEAVES, style[5]), labels.VEGETATION
    else:
        block = np.floor(along / 9.0)
        height = 5.0 + 16.0 * cell_value(block, np.float32([60 * style[4]])) ** 2
        colour, label = pick(WALLS, style[5]), labels.BUILDING
    seen = camera.rows(depth, 0.0, float(height.max()))
    if seen is None:
        return
    rows, level = seen
    alpha = np.clip((height[None] - level) / (depth / camera.focal) + 0.5, 0.0, 1.0)
    tone = 1.0 + (0.2 if trees else 0.06) * sample("leaf" if trees else "grain", along[None] * 3, level * 3)
    rgb = colour * light.shade((0.0, 0.0, -1.0)) * tone[..., None]
    canvas.paint((rows.start, rows.stop, columns.start, columns.stop), alpha, rgb, depth[None], label)


class Shadows:
    """Which ground points the buildings keep the sun from; heights of the fronts in half-metre steps along Z."""

    def __init__(self, street: Street):
        self.street = street
        steps = int((AHEAD - BEHIND) * 2) + 80
        self.height = np.zeros((2, steps), np.float32)
        self.surface = np.zeros((2, steps), np.uint8)
        for plot in street.plots:
            window = np.s_[int((plot.side + 1) // 2), int((plot.start - BEHIND) * 2) : int((plot.stop - BEHIND) * 2)]
            self.height[window] = plot.height
            self.surface[window] = {"building": 0, "park": 1, "crossing": 2}[plot.kind]

    def column(self, z):
        return np.clip((z - BEHIND) * 2, 0, self.height.shape[1] - 1).astype(np.int32)

    def sunlit(self, offset, z):
        """Share of the sun 0..1 at `offset` metres from the middle of the road."""
        x, y, ahead = (float(c) for c in self.street.light.towards)
        if abs(x) < 0.05:
            return np.ones_like(offset)
        side = 1 if x > 0 else 0
        edge = (1 if x > 0 else -1) * (self.street.half_road + self.street.pavement)
        path = np.maximum((edge - offset) / x, 0.0)
        height = self.height[side][self.column(z + path * ahead)]
        return 1.0 - np.clip((height - path * y) / (0.06 * path + 0.1) + 0.5, 0.0, 1.0) * (height > 0)


def paint_ground(canvas: Canvas, camera: Camera, street: Street, shadows: Shadows, cast: np.ndarray) -> None:
    """Road with markings, kerbs, pavement, grass. `cast` [H, W] in 0..1 is how much sun upright things leave."""
    style, light = street.ground, street.light
    below = np.flatnonzero(camera.up < -camera.position[1] / (AHEAD + 60.0))
    if below.size == 0:
        return
    first = int(below[0])
    depth = camera.position[1] / -camera.up[first:, None]
    x = camera.position[0] + depth * camera.ray_x[None]
    z = camera.position[2] + depth * camera.ray_z[None]
    offset = x - street.middle(z).astype(np.float32)
    apart = np.abs(offset)
    fine = depth / camera.focal
    coarse = fine * depth / camera.position[1]
    surface = shadows.surface[(offset > 0).astype(np.int32), shadows.column(z)]
    road = (apart < street.half_road) | (surface == 2)
    grass = ~road & (apart > street.half_road + street.pavement) & (surface == 1)
    strip = ~road & ~grass & (style[0] < 0.2) & (apart < street.half_road + 0.9)
    grass |= strip

    near = 1.0 / (1.0 + np.square(coarse * 9.0))
    grain = sample("grain", x * 22, z * 22) * near
    broad = sample("cloud", x * 7 + 90, z * 3)
    grey = 0.26 + 0.26 * style[1]
    rgb = np.empty((*x.shape, 3), np.float32)
    asphalt = grey * (1.0 + 0.10 * grain + 0.09 * broad - 0.10 * stripe(offset, street.half_road, 0.25, fine))
    asphalt *= 1.0 - 0.25 * (sample("leaf", x * 3, z * 1.5) > 2.1)
    rgb[:] = asphalt[..., None] * (1.0, 0.98 + 0.04 * style[2], 0.96 + 0.1 * style[3])
    slab = 0.5 + 0.7 * style[4]
    tone = (0.30 + 0.34 * style[5]) * (1.0 + 0.12 * grain + 0.08 * broad)
    tone *= 1.0 + 0.22 * (cell_value(np.floor(x / slab), np.floor(z / slab)) - 0.5) * near
    joint = np.maximum(stripe(x, slab, 0.06 / slab, fine), stripe(z, slab, 0.06 / slab, coarse))
    paved = (tone * (1.0 - 0.35 * joint))[..., None] * (1.0, 0.94 + 0.08 * style[6], 0.84 + 0.2 * style[7])
    np.copyto(rgb, paved.astype(np.float32), where=~road[..., None])
    lawn = pick(LEAVES, style[8]) * (1.0 + 0.30 * sample("leaf", x * 40, z * 14) * near + 0.22 * broad)[..., None]
    np.copyto(rgb, lawn, where=grass[..., None])
    kerb = np.clip(0.5 - (np.abs(apart - street.half_road - 0.09) - 0.09) / fine, 0.0, 1.0) * (surface != 2)
    rgb += (grey * 0.3 + 0.34 - rgb) * (0.75 * kerb * ~road)[..., None]

    paint = _markings(street, offset, z, fine, coarse) * (1.0 - 0.45 * (sample("grain", x * 9, z * 9) > 0.8))
    paint *= road & (surface != 2)
    rgb += (_marking_colour(style) - rgb) * paint[..., None]
    lit = shadows.sunlit(offset, z) * cast[first:]
    rgb *= light.ambient + light.sun * float(light.towards[1]) * lit[..., None]
    canvas.rgb[first:] = rgb
    canvas.label[first:] = np.where(grass, labels.VEGETATION, np.where(road, labels.ROAD, labels.PAVEMENT))
    canvas.depth[first:] = depth


def _marking_colour(style: np.ndarray) -> np.ndarray:
    return np.array([0.78, 0.78, 0.76] if style[9] < 0.8 else [0.80, 0.64, 0.16], np.float32)


def _markings(street: Street, offset, z, fine, coarse) -> np.ndarray:
    """Coverage of road paint: dashed middle line, edge lines, a crossing."""
    style = street.ground
    line = 0.09
    dash = stripe(z, 5.0 + 4.0 * style[10], 0.45, coarse) if style[11] < 0.75 else 1.0
    paint = np.clip((line - np.abs(offset)) / fine + 0.5, 0.0, 1.0) * dash
    if style[12] < 0.5:
        edge = np.abs(offset) - (street.half_road - 0.35)
        paint = np.maximum(paint, np.clip((line - np.abs(edge)) / fine + 0.5, 0.0, 1.0))
    if style[13] < 0.35:
        ahead = 5.0 + 16.0 * style[14]
        inside = np.clip((1.6 - np.abs(z - ahead)) / coarse + 0.5, 0.0, 1.0)
        bars = stripe(offset, 1.0, 0.5, fine) * (np.abs(offset) < street.half_road - 0.2)
        paint = np.maximum(paint * (1.0 - inside), inside * bars)
    return paint


def paint_barrier(canvas: Canvas, camera: Camera, barrier: Barrier, light: Light, lit: float) -> None:
    """A hedge, or a fence of planks, bars or mesh; a fence owns its whole panel, gaps too, as annotators draw it."""
    found = camera.wall(0, barrier.x, barrier.start, barrier.stop)
    if found is None:
        return
    columns, depth, along = found
    style = barrier.style
    hedge = barrier.kind == "hedge"
    seen = camera.rows(depth, 0.0, barrier.height + (0.4 if hedge else 0.1))
    if seen is None:
        return
    rows, level = seen
    fine = (depth / camera.focal)[None]
    u = along[None]
    box = (rows.start, rows.stop, columns.start, columns.stop)
    side = 1.0 if barrier.x < camera.position[0] else -1.0
    shade = light.shade((side, 0.3, 0.0), lit)
    top = barrier.height
    if hedge:
        ragged = top + 0.12 * sample("leaf", u * 18, level * 18)
        alpha = np.clip((ragged - level) / fine + 0.5, 0.0, 1.0) * np.clip(level / fine + 0.5, 0.0, 1.0)
        tone = 0.75 + 0.35 * level / top + 0.26 * sample("leaf", u * 36, level * 36)
        rgb = pick(LEAVES, style[0]) * tone[..., None] * shade
        canvas.paint(box, alpha, rgb.astype(np.float32), depth[None], labels.VEGETATION)
        return
    panel = np.clip((top - level) / fine + 0.5, 0.0, 1.0) * np.clip(level / fine + 0.5, 0.0, 1.0)
    colour = pick(
        ((0.45, 0.32, 0.22), (0.24, 0.26, 0.26), (0.70, 0.70, 0.68), (0.22, 0.34, 0.24), (0.52, 0.50, 0.48)), style[1]
    )
    rails = np.maximum(
        np.clip((0.05 - np.abs(level - top + 0.06)) / fine + 0.5, 0.0, 1.0),
        np.clip((0.05 - np.abs(level - 0.2 * top)) / fine + 0.5, 0.0, 1.0),
    )
    post = stripe(u, 2.0, 0.05, fine)
    if style[2] < 0.3:
        cover = panel * (1.0 - 0.5 * stripe(u, 0.16, 0.12, fine))
        tone = 0.9 + 0.2 * cell_value(np.floor(u / 0.16), np.float32([5]))
    elif style[2] < 0.8:
        bars = stripe(u, 0.22 + 0.2 * style[3], 0.25, fine)
        cover, tone = panel * np.maximum(np.maximum(bars, rails), post), np.ones_like(level)
    else:
        mesh = np.maximum(stripe(u + level, 0.16, 0.14, fine), stripe(u - level, 0.16, 0.14, fine))
        cover, tone = panel * np.maximum(np.maximum(0.9 * mesh, rails), post), np.ones_like(level)
    rgb = colour * (tone * (0.8 + 0.2 * level / top))[..., None] * shade
    canvas.paint(box, cover, rgb.astype(np.float32), depth[None], labels.FENCE, owned=panel >= 0.5)


def fade(canvas: Canvas, light: Light) -> None:
    """Blend everything but the sky towards the haze with distance (Koschmieder's law)."""
    clear = np.exp(canvas.depth * (-1.0 / light.haze_distance))
    clear[canvas.depth >= FAR] = 1.0
    canvas.rgb += (light.haze - canvas.rgb) * (1.0 - clear)[..., None]
