"""clouds: a procedural data set of furniture and mugs as labelled points, drawn by index, without end or download.

A cloud is a pure function of (seed, index). The second coordinate is up, as in ShapeNet. numpy only.
"""

from __future__ import annotations

from segjax.data.clouds.shapes import CATEGORIES
from segjax.data.clouds.source import CloudSource, dataset_info, draw_cloud

__all__ = ["CATEGORIES", "CloudSource", "dataset_info", "draw_cloud"]
