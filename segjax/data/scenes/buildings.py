"""Fronts and ends of buildings: which of them can be seen, and their walls, windows, shops and roofs."""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.data.scenes import labels
from segjax.data.scenes.layers import Camera, Canvas
from segjax.data.scenes.layout import Light, Plot
from segjax.data.scenes.surfaces import WALLS, pick
from segjax.data.scenes.texture import cell_value, sample, stripe


@dataclasses.dataclass
class Face:
    """One wall of a building as the camera sees it.

    The wall lies in a plane across `axis` (0: X, 2: Z), from start to stop along the other axis; depth, along (position
    on that axis) and top (height of the roof's edge) are [w], for the columns that see it.
    """

    plot: Plot
    axis: int
    start: float
    stop: float
    columns: slice
    depth: np.ndarray
    along: np.ndarray
    top: np.ndarray
    gable: bool
    pitched: bool


def _face(camera: Camera, plot: Plot, axis: int, offset: float, start: float, stop: float) -> Face | None:
    found = camera.wall(axis, offset, start, stop)
    if found is None:
        return None
    columns, depth, along = found
    roofed = plot.style[1] < 0.4 and plot.height < 14
    gable, pitched = roofed and axis == 2, roofed and axis == 0
    top = plot.height + np.zeros_like(along)
    if gable:
        top += 0.7 * (0.5 * (stop - start) - np.abs(along - 0.5 * (start + stop)))
    if pitched:
        top += 2.2
    return Face(plot, axis, start, stop, columns, depth, along, top, gable, pitched)


def visible_faces(camera: Camera, plots: list[Plot]) -> list[Face]:
    """The walls that nearer walls do not hide altogether, far ones first.

    Every wall stands on the ground, so nearer walls hide all that stays under their skyline.
    """
    faces = []
    for plot in plots:
        if plot.kind != "building":
            continue
        back = plot.face + plot.side * (8.0 + 8.0 * plot.style[0])
        if plot.start > camera.position[2]:
            faces.append(_face(camera, plot, 2, plot.start, min(plot.face, back), max(plot.face, back)))
        if (plot.face - camera.position[0]) * plot.side > 0:
            faces.append(_face(camera, plot, 0, plot.face, plot.start, plot.stop))
    faces = sorted((f for f in faces if f is not None), key=lambda f: float(f.depth.mean()))
    skyline = np.full(camera.width, np.inf, np.float32)
    seen = []
    for face in faces:
        roof = camera.horizon - camera.focal * (face.top - camera.position[1]) / face.depth
        window = skyline[face.columns]
        if (roof < window + 1.0).any():
            seen.append(face)
            np.minimum(window, roof, out=window)
    return seen[::-1]


def paint_face(canvas: Canvas, camera: Camera, face: Face, light: Light) -> None:
    """One wall with its windows in rows."""
    seen = camera.rows(face.depth, 0.0, float(face.top.max()))
    if seen is None:
        return
    rows, level = seen
    style, top, columns, depth = face.plot.style, face.top, face.columns, face.depth
    plot, gable, pitched = face.plot, face.gable, face.pitched
    start, stop = face.start, face.stop
    fine = (depth / camera.focal)[None]
    u = (face.along - start)[None]
    normal = (-float(plot.side), 0.0, 0.0) if face.axis == 0 else (0.0, 0.0, -1.0)
    shade = light.shade(normal)

    wall = pick(WALLS, style[2]) * (0.75 + 0.5 * style[3])
    near = 1.0 / (1.0 + np.square(fine * 7.0))
    tone = (
        1.0
        + 0.07 * sample("cloud", u * 5 + 200 * style[4], level * 5)
        + 0.08 * sample("grain", u * 16, level * 16) * near
    )
    if style[5] < 0.45:
        course = stripe(level, 0.30, 0.16, fine)
        tone = tone * (1.0 - 0.22 * course * near)
    tone = tone * (0.80 + 0.20 * np.clip(level / 2.5, 0.0, 1.0))
    rgb = wall * tone[..., None]

    storey, bay = 2.7 + 0.9 * style[6], 1.5 + 2.4 * style[7]
    wide, tall = 0.38 + 0.4 * style[8], 0.42 + 0.3 * style[9]
    glazed = style[10] < 0.15
    if glazed:
        wide, tall = 0.90, 0.84
    inset = 0.5 * ((stop - start) - np.floor((stop - start) / bay) * bay)
    within = np.clip((top[None] - (2.4 if pitched or gable else 0.5) - level) / fine, 0.0, 1.0)
    within = within * ((u > inset) & (u < (stop - start) - inset))
    shop = style[11] < 0.4
    floor, column = np.floor(level / storey), np.floor((u - inset) / bay)
    ground_floor = (floor == 0) & shop
    across = stripe(u - inset, bay, wide, fine)
    pane = across * stripe(level, storey, tall, fine) * within * ~ground_floor
    frame = stripe(u - inset, bay, min(wide + 0.14, 0.97), fine) * stripe(level, storey, min(tall + 0.10, 0.97), fine)
    trim = np.clip(wall * (1.35 if style[12] < 0.6 else 0.6), 0.0, 0.95)
    rgb += (trim - rgb) * (0.8 * frame * within * ~ground_floor)[..., None]
    value = cell_value(column + 64 * style[13], floor + 64 * style[14])
    glass = (0.10 + 0.22 * value)[..., None] * (0.9, 1.0, 1.1)
    mirror = np.clip(level / 14.0, 0.2, 0.9) * (0.85 if glazed else 0.4) * (value > 0.3)
    glass = glass + (0.5 * light.zenith + 0.5 * light.haze - glass) * mirror[..., None]
    emit = (value < (0.45 if light.night else 0.08)) * (light.ambient.mean() < 0.42)
    rgb = rgb * shade
    window = glass * np.maximum(shade, 0.75 * (not light.night)) * (1.0 - emit[..., None])
    window = window + emit[..., None] * np.array([0.95, 0.76, 0.42], np.float32)
    rgb += (window - rgb) * pane[..., None]
    if shop:
        front = stripe(u, bay * 1.6, 0.8, fine) * (level > 0.35) * (level < storey * 0.74)
        display = 0.12 + 0.5 * cell_value(np.floor(u * 2.2), np.floor(level * 2.2) + 64 * style[13])
        display = display[..., None] * (0.7 + 0.6 * style[:3]) * (shade if not light.night else 1.1)
        rgb += (display - rgb) * (0.8 * front * ground_floor)[..., None]
        board = (level > storey * 0.76) & (level < storey * 0.96)
        rgb += (style[3:6] * shade - rgb) * (0.85 * board)[..., None]
    if pitched:
        tiles = pick(((0.42, 0.20, 0.16), (0.28, 0.26, 0.28), (0.36, 0.28, 0.22)), style[15])
        slope = (
            tiles * (1.0 - 0.3 * stripe(level, 0.4, 0.3, fine))[..., None] * light.shade((-0.5 * plot.side, 0.85, 0.0))
        )
        rgb += (slope - rgb) * np.clip((level - plot.height) / fine, 0.0, 1.0)[..., None]
    elif not gable:
        rgb *= 1.0 - 0.3 * (np.abs(level - plot.height + 0.35) < 0.12)[..., None]
    alpha = np.clip((top[None] - level) / fine + 0.5, 0.0, 1.0) * np.clip(level / fine + 0.5, 0.0, 1.0)
    box = (rows.start, rows.stop, columns.start, columns.stop)
    canvas.paint(box, alpha, rgb.astype(np.float32), depth[None], labels.BUILDING)
