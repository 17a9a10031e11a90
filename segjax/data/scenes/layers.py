"""The canvas that layers are painted on, the camera that places them, and antialiased drawing in 8 bits."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np

from segjax.core.schema import IGNORE

FAR = 1000.0
"""Depth of the sky, metres."""
NEAR = 0.35
_SHIFT = 4


class Canvas:
    """What a scene is painted on; every layer passes the depth test, so nearer always hides farther.

    rgb float32 [H, W, 3] in 0..1, label uint8 [H, W], instance uint16 [H, W], depth float32 [H, W].
    """

    def __init__(self, height: int, width: int):
        self.height, self.width = height, width
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.label = np.full((height, width), IGNORE, np.uint8)
        self.instance = np.zeros((height, width), np.uint16)
        self.depth = np.full((height, width), FAR, np.float32)

    def paint(
        self,
        box: tuple[int, int, int, int],
        alpha: np.ndarray,
        rgb: np.ndarray,
        depth: np.ndarray | float,
        label: int,
        instance: int = 0,
        *,
        owned: np.ndarray | None = None,
        unsure: np.ndarray | None = None,
    ) -> None:
        """Blend one layer into rows y0:y1 and columns x0:x1 of `box` = (y0, y1, x0, x1).

        Args:
          alpha: coverage [h, w] in 0..1; its pixel takes the layer's label from a half on.
          rgb: [h, w, 3] or anything that broadcasts to it.
          depth: metres, broadcasting to [h, w].
          owned: bool [h, w], the pixels that take the label where that is not decided by `alpha` (see-through fences).
          unsure: bool [h, w], pixels of a ragged edge that become void.
        """
        y0, y1, x0, x1 = box
        window = np.s_[y0:y1, x0:x1]
        behind = self.depth[window]
        front = depth < behind
        visible = alpha * front
        target = self.rgb[window]
        target += (rgb - target) * visible[..., None]
        mine = visible >= 0.5 if owned is None else owned & front
        self.label[window][mine] = label
        self.instance[window][mine] = instance
        if unsure is not None:
            doubtful = unsure & front
            self.label[window][doubtful] = IGNORE
            self.instance[window][doubtful] = 0
            mine |= doubtful
        np.copyto(behind, np.asarray(depth, np.float32), where=mine)


@dataclasses.dataclass
class Camera:
    """A pinhole camera over flat ground, turned about the vertical only; X right, Y up, Z ahead, metres.

    Because it never rolls, every vertical plane has one depth a column and the ground one depth a row.
    """

    height: int
    width: int
    focal: float
    horizon: float
    yaw: float
    position: np.ndarray

    def __post_init__(self):
        self.cos, self.sin = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        self.centre = 0.5 * self.width
        self.across = ((np.arange(self.width, dtype=np.float32) + 0.5) - self.centre) / self.focal
        self.up = (self.horizon - (np.arange(self.height, dtype=np.float32) + 0.5)) / self.focal
        self.ray_x = self.across * self.cos + self.sin
        self.ray_z = self.cos - self.across * self.sin

    def view(self, points: np.ndarray) -> np.ndarray:
        """World points [..., 3] in the camera's own axes; the last is the depth."""
        relative = np.asarray(points, np.float64) - self.position
        x, y, z = relative[..., 0], relative[..., 1], relative[..., 2]
        return np.stack([x * self.cos - z * self.sin, y, x * self.sin + z * self.cos], -1)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions [..., 2] and depths [...] of world points; depths are held above NEAR."""
        seen = self.view(points)
        depth = np.maximum(seen[..., 2], NEAR)
        x = self.centre + self.focal * seen[..., 0] / depth
        y = self.horizon - self.focal * seen[..., 1] / depth
        return np.stack([x, y], -1), seen[..., 2]

    def wall(self, axis: int, offset: float, start: float, stop: float) -> tuple[slice, np.ndarray, np.ndarray] | None:
        """Columns that see the vertical plane `axis` (0: X, 2: Z) = `offset`, from start to stop along the other axis.

        Returns (columns, depth [w], position along the plane [w]), or None if it is out of sight.
        """
        normal, other = (self.ray_x, self.ray_z) if axis == 0 else (self.ray_z, self.ray_x)
        gap = offset - self.position[axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = gap / normal
            along = self.position[2 - axis] + depth * other
        seen = np.flatnonzero((depth > NEAR) & (depth < FAR) & (along >= start) & (along < stop))
        if seen.size == 0:
            return None
        columns = slice(int(seen[0]), int(seen[-1]) + 1)
        return columns, depth[columns].astype(np.float32), along[columns].astype(np.float32)

    def rows(self, depth: np.ndarray, bottom: float, top: float) -> tuple[slice, np.ndarray] | None:
        """Rows between two heights at `depth` [w] and the height [h, w] that each pixel there sees."""
        nearest = float(depth.min()), float(depth.max())
        rise, fall = top - self.position[1], bottom - self.position[1]
        first = min(self.horizon - self.focal * rise / d for d in nearest) - 1.0
        last = max(self.horizon - self.focal * fall / d for d in nearest) + 1.0
        y0, y1 = max(0, int(np.floor(first))), min(self.height, int(np.ceil(last)))
        if y0 >= y1:
            return None
        return slice(y0, y1), self.position[1] + depth[None, :] * self.up[y0:y1, None]


class Sketch:
    """Antialiased drawing of one flat figure, in metres about its foot or in pixels of the canvas.

    A patch of 8-bit RGBA: the coverage is drawn along with the colour.
    """

    def __init__(self, canvas: Canvas, left: float, top: float, right: float, bottom: float, colour):
        self.canvas = canvas
        self.x0, self.y0 = max(0, int(np.floor(left)) - 1), max(0, int(np.floor(top)) - 1)
        self.x1, self.y1 = min(canvas.width, int(np.ceil(right)) + 1), min(canvas.height, int(np.ceil(bottom)) + 1)
        self.empty = self.x0 >= self.x1 or self.y0 >= self.y1
        self.origin, self.scale = np.zeros(2), np.ones(2)
        self.thinnest = 0.0
        if not self.empty:
            self.patch = np.empty((self.y1 - self.y0, self.x1 - self.x0, 4), np.uint8)
            self.patch[:] = (*_bytes(colour), 0)

    @classmethod
    def standing(cls, canvas: Canvas, foot, scale: float, left: float, right: float, top: float, colour) -> Sketch:
        """A patch for a figure that stands at pixel `foot`, `scale` pixels a metre, with its extent in metres."""
        x, y = float(foot[0]), float(foot[1])
        sketch = cls(canvas, x + left * scale, y - top * scale, x + right * scale, y + 0.15 * scale, colour)
        sketch.origin, sketch.scale = np.array([x, y]), np.array([scale, -scale])
        sketch.thinnest = 1.0 / scale
        return sketch

    def _fixed(self, points) -> np.ndarray:
        pixels = self.origin + np.asarray(points, np.float64) * self.scale
        pixels -= (self.x0 + 0.5, self.y0 + 0.5)
        return np.round(np.clip(pixels, -4000, 4000) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points, colour) -> None:
        cv2.fillPoly(self.patch, [self._fixed(points)], (*_bytes(colour), 255), cv2.LINE_AA, _SHIFT)

    def disc(self, centre, radius, colour, *, ring: float = 0.0) -> None:
        """A filled ellipse of radii `radius` (x, y), or its outline `ring` wide."""
        x, y = self._fixed(centre)
        axes = np.abs(np.asarray(radius) * self.scale) * (1 << _SHIFT)
        size = (max(8, round(float(axes[0]))), max(8, round(float(axes[1]))))
        thickness = -1 if not ring else max(1, round(ring * abs(float(self.scale[0]))))
        colour = (*_bytes(colour), 255)
        centre = (int(x), int(y))
        cv2.ellipse(self.patch, centre, size, 0, 0, 360, colour, thickness, cv2.LINE_AA, _SHIFT)

    def stroke(self, points, width: float, colour) -> None:
        """A line through points, `width` wide but never under a pixel."""
        points = np.asarray(points, np.float64)
        half = 0.5 * max(width, 1.25 * self.thinnest)
        for a, b in itertools.pairwise(points):
            direction = (b - a) / max(float(np.hypot(*(b - a))), 1e-6)
            normal = np.array([-direction[1], direction[0]]) * half
            end = direction * half * 0.5
            self.polygon([a + normal - end, b + normal + end, b - normal + end, a - normal - end], colour)

    def hairline(self, points, colour) -> None:
        """A line through points, one pixel wide at any distance."""
        cv2.polylines(self.patch, [self._fixed(points)], False, (*_bytes(colour), 255), 1, cv2.LINE_AA, _SHIFT)

    def place(
        self, shade: np.ndarray, depth: float, label: int, instance: int = 0, gloss: np.ndarray | None = None
    ) -> None:
        """Paint the figure under light `shade` (3 gains); `gloss` [h, w] multiplies it, pixel by pixel."""
        rgb = self.patch[..., :3] * (np.asarray(shade, np.float32) / 255.0)
        if gloss is not None:
            rgb *= gloss[..., None]
        alpha = self.patch[..., 3] * np.float32(1.0 / 255.0)
        self.canvas.paint((self.y0, self.y1, self.x0, self.x1), alpha, rgb, depth, label, instance)


def _bytes(colour) -> tuple[int, int, int]:
    return tuple(int(min(max(c, 0.0), 1.0) * 255.0) for c in colour)


def finish(
    rgb: np.ndarray, rng: np.random.Generator, *, gain, vignette: float, blur: float, noise: float, gamma: float
) -> np.ndarray:
    """What lens and sensor do: blur (pixels), vignette, white balance, tone curve, shot and read noise; uint8."""
    height, width = rgb.shape[:2]
    if blur > 0.2:
        rgb = cv2.GaussianBlur(rgb, (0, 0), blur, borderType=cv2.BORDER_REFLECT)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    falloff = 1.0 - vignette * (y * y + x * x) * 0.5
    rgb = np.maximum(rgb * falloff[..., None] * np.asarray(gain, np.float32), 0.0)
    if gamma != 1.0:
        rgb = cv2.pow(rgb, gamma)
    grain = rng.standard_normal(rgb.shape, dtype=np.float32)
    grain *= noise * (0.5 + cv2.sqrt(rgb))
    rgb = rgb + grain
    return np.clip(rgb * 255.0 + 0.5, 0, 255).astype(np.uint8)
