"""Write scenes.png: twelve held-out scenes with their labels, and all annotations of one more."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np
from PIL import Image

from segjax.data.scenes import PALETTE, SceneSource
from segjax.inference.draw import colour_labels

STREETS = (20, 7, 30, 1, 44, 18, 28, 12)
FIELDS = (0, 1, 2, 3)
SHOWN = 45


def flow_colours(flow: np.ndarray) -> np.ndarray:
    """Direction as hue, length as saturation up to four pixels."""
    length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
    hsv = np.stack([angle * (90.0 / np.pi), np.clip(length / 4.0, 0, 1) * 255, np.full_like(length, 255)], -1)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def depth_colours(depth: np.ndarray) -> np.ndarray:
    near = np.clip(1.0 - np.log(depth / 2.0) / np.log(60.0), 0, 1)
    return cv2.cvtColor(cv2.applyColorMap((near * 255).astype(np.uint8), cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def main() -> None:
    street, cells = SceneSource("test"), SceneSource("test", style="cells")
    shown = [street.scene(i) for i in STREETS] + [cells.scene(i) for i in FIELDS]
    shown = [shown[i] for i in (0, 1, 2, 3, 8, 9, 4, 5, 6, 7, 10, 11)]
    rows = []
    for six in (shown[:6], shown[6:]):
        rows.append(np.concatenate([s["image"] for s in six], 1))
        rows.append(np.concatenate([colour_labels(s["label"], PALETTE) for s in six], 1))
    scene, later = street.scene(SHOWN), street.scene(SHOWN, frame=6)
    identity = np.random.default_rng(3).integers(70, 255, (1000, 3), dtype=np.uint8)
    identity[0] = 24
    panels = [scene["image"], later["image"], colour_labels(scene["label"], PALETTE), identity[scene["instance"]]]
    panels += [depth_colours(scene["depth"]), flow_colours(scene["flow"])]
    sheet = np.concatenate([*rows, np.concatenate(panels, 1)], 0)
    picture = Image.fromarray(sheet).quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    picture.save(pathlib.Path(__file__).with_name("scenes.png"), optimize=True)


if __name__ == "__main__":
    main()
