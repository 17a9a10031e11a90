"""scenes: a procedural data set of street-like and cell-like images, drawn by index, at any size, without a download.

A scene is a pure function of (seed, index, frame): `render` gives the image with every annotation that a segmentation
task asks for. numpy and cv2 only.
"""

from __future__ import annotations

from segjax.data.scenes.labels import CLASSES, PALETTE, PANOPTIC_FACTOR, STREET_COUNT, THINGS
from segjax.data.scenes.source import STYLES, SceneSource, dataset_info, render

__all__ = [
    "CLASSES",
    "PALETTE",
    "PANOPTIC_FACTOR",
    "STREET_COUNT",
    "STYLES",
    "THINGS",
    "SceneSource",
    "dataset_info",
    "render",
]
