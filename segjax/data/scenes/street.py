"""Put a street together: description, camera at a frame, layers from far to near, lens."""

from __future__ import annotations

import cv2
import numpy as np

from segjax.core.schema import IGNORE
from segjax.data.scenes import surfaces
from segjax.data.scenes.buildings import paint_face, visible_faces
from segjax.data.scenes.figures import DRAW
from segjax.data.scenes.layers import Camera, Canvas, Sketch, finish
from segjax.data.scenes.layout import FRAME_SECONDS, Street, Thing, draw_street
from segjax.data.scenes.texture import stream

_NEAREST = 2.2
"""Things closer to the camera than this have left the picture, metres."""


def _camera(street: Street, height: int, width: int, frame: int, zoom: float) -> Camera:
    step = street.speed * FRAME_SECONDS * frame
    focal = 0.95 * zoom * street.zoom * (height * width) ** 0.5
    position = np.array([street.camera_x, street.camera_height, step])
    return Camera(height, width, focal, street.horizon * height, street.yaw, position)


def camera_of(index: int, *, seed: int, height: int, width: int, frame: int = 0, zoom: float = 1.0) -> Camera:
    """The camera that `render_street` looks through: what turns its depth map into points."""
    return _camera(draw_street(stream(seed, index)), height, width, frame, zoom)


def _cast(camera: Camera, street: Street, things: list[Thing]) -> np.ndarray:
    """Share of the sun that upright things leave on the ground, float32 [H, W] in 0..1."""
    shade = np.full((camera.height, camera.width), 255, np.uint8)
    towards = street.light.towards
    throw = -towards[[0, 2]] / max(float(towards[1]), 0.15)
    for thing in things:
        _, height, width = DRAW[thing.kind]
        length = 4.2 if thing.kind == "car" else width
        half = 0.5 * np.array([[-width, -length], [width, -length], [width, length], [-width, length]])
        if thing.kind == "tree":
            crown = np.array([thing.x, thing.z]) + throw * 0.62 * height * (0.8 + 0.5 * thing.style[1])
            turn = np.linspace(0, 2 * np.pi, 11)[:-1]
            base = crown + np.stack([np.cos(turn), np.sin(turn)], -1) * width * 0.85
        else:
            foot = np.array([thing.x, thing.z]) + half * (1.0 if thing.kind == "car" else 0.35)
            base = np.concatenate([foot, foot + throw * height])
        pixels, depth = camera.project(np.insert(base, 1, 0.0, axis=1))
        if depth.min() < 1.0:
            continue
        hull = cv2.convexHull(pixels.astype(np.float32))
        points = np.round((np.clip(hull, -2000, 4000) - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(shade, points, 60, cv2.LINE_AA, 4)
    return cv2.blur(shade, (3, 3)).astype(np.float32) / 255.0


def _hood(canvas: Canvas, share: float, shade: np.ndarray) -> np.ndarray:
    """The bonnet of the camera's own car along the lower edge: void, one metre away. Returns its mask."""
    x = (np.arange(canvas.width, dtype=np.float32)[None] + 0.5) / canvas.width * 2.0 - 1.0
    y = (np.arange(canvas.height, dtype=np.float32)[:, None] + 0.5) / canvas.height
    edge = 1.0 - share * (1.0 - 0.45 * x * x)
    alpha = np.clip((y - edge) * canvas.height + 0.5, 0.0, 1.0)
    rgb = np.float32([0.20, 0.21, 0.23]) * (1.6 - 6.0 * np.clip(y - edge, 0.0, 0.15))[..., None] * shade
    canvas.paint((0, canvas.height, 0, canvas.width), alpha, rgb, 1.0, IGNORE)
    return alpha >= 0.5


def _wires(canvas: Canvas, camera: Camera, street: Street) -> None:
    """Overhead wires, too thin to annotate: void."""
    sketch = Sketch(canvas, 0, 0, canvas.width, camera.horizon, (0.1, 0.1, 0.1))
    if sketch.empty:
        return
    drawn = []
    for i in range(3):
        x, z = street.middle(0.0) + (i - 1.0) * street.half_road, np.linspace(6.0, 46.0, 17)
        sag = 6.2 + 0.3 * i + 0.9 * np.square((z % 20.0) / 10.0 - 1.0)
        pixels, depth = camera.project(np.stack([np.full(17, x), sag, z], -1))
        drawn.append(pixels[depth > 2.0])
    for pixels in drawn:
        if len(pixels) > 1:
            sketch.hairline(pixels, (0.12, 0.12, 0.13))
    sketch.place(street.light.shade(), 20.0, IGNORE)


def _flow(camera: Camera, canvas: Canvas, street: Street, things: list[Thing], hood: np.ndarray | None) -> np.ndarray:
    """Where each pixel's point goes by the next frame, (dx, dy) pixels, from its depth and its thing's velocity."""
    velocity = np.zeros((1 + max((t.instance for t in things), default=0), 2), np.float32)
    for thing in things:
        velocity[thing.instance if thing.instance else 0] = thing.velocity
    velocity = (velocity - (0.0, street.speed)) * FRAME_SECONDS
    moved = velocity.astype(np.float32)[canvas.instance]
    right = moved[..., 0] * camera.cos - moved[..., 1] * camera.sin
    ahead = moved[..., 0] * camera.sin + moved[..., 1] * camera.cos
    depth = canvas.depth
    later = np.maximum(depth + ahead, 0.1)
    across, up = camera.across[None], camera.up[:, None]
    flow = np.empty((*depth.shape, 2), np.float32)
    flow[..., 0] = ((across * depth + right) / later - across) * camera.focal
    flow[..., 1] = -(up * depth / later - up) * camera.focal
    flow[canvas.depth >= 1000.0] = 0.0
    if hood is not None:
        flow[hood] = 0.0
    return flow


def render_street(
    index: int, *, seed: int, height: int, width: int, frame: int, zoom: float, time: str
) -> dict[str, np.ndarray]:
    """One street; see `segjax.data.scenes.render`."""
    street = draw_street(stream(seed, index), time)
    light = street.light
    camera = _camera(street, height, width, frame, zoom)
    canvas = Canvas(height, width)
    shadows = surfaces.Shadows(street)
    moved = [thing.at(frame) for thing in street.things]
    depths = camera.view(np.array([[t.x, 0.0, t.z] for t in moved]))[:, 2]
    present = [(float(d), t) for d, t in zip(depths, moved) if _NEAREST < d < 90.0]

    surfaces.paint_sky(canvas, camera, light, street.ground)
    surfaces.paint_ground(canvas, camera, street, shadows, _cast(camera, street, [t for _, t in present]))
    surfaces.paint_backdrop(canvas, camera, light, street.ground)
    for face in visible_faces(camera, street.plots):
        paint_face(canvas, camera, face, light)

    layers = [(depth, thing.instance, thing) for depth, thing in present]
    for barrier in street.barriers:
        middle = camera.view(np.array([barrier.x, 0.0, 0.5 * (barrier.start + barrier.stop)]))[2]
        layers.append((float(middle), 0, barrier))
    for _, _, layer in sorted(layers, key=lambda entry: (-entry[0], entry[1])):
        middle = layer.z if isinstance(layer, Thing) else 0.5 * (layer.start + layer.stop)
        lit = float(shadows.sunlit(np.float64(layer.x - street.middle(middle)), np.float64(middle)))
        if isinstance(layer, Thing):
            DRAW[layer.kind][0](canvas, camera, layer, light.shade(None, lit), light)
        else:
            surfaces.paint_barrier(canvas, camera, layer, light, lit)
    if street.wires:
        _wires(canvas, camera, street)
    surfaces.fade(canvas, light)
    hood = _hood(canvas, street.hood, light.shade()) if street.hood else None

    lens = stream(seed, index, purpose=1)
    unit = (height * width / (128 * 160)) ** 0.5
    exposure = lens.uniform(1.0, 1.45) * (1.5 if light.night else 1.0)
    settings = {
        "gain": exposure * (1.0 + lens.uniform(-0.09, 0.09, 3)),
        "vignette": lens.uniform(0.0, 0.35),
        "blur": unit * lens.choice([0.0, 0.35, 0.7], p=[0.4, 0.4, 0.2]),
        "noise": lens.uniform(0.007, 0.028) * (1.5 if light.night else 1.0),
        "gamma": lens.uniform(0.8, 1.15),
    }
    image = finish(canvas.rgb, stream(seed, index, frame=frame, purpose=2), **settings)
    return {
        "image": image,
        "label": canvas.label,
        "instance": canvas.instance,
        "depth": canvas.depth,
        "flow": _flow(camera, canvas, street, moved, hood),
    }
