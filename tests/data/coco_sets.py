"""Tiny data sets in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (20, 30)
SQUARE = [2, 2, 10, 2, 10, 10, 2, 10]  # 8x8 pixels


def make_coco(
    root: Path,
    annotations: list[dict[str, Any]] | None = None,
    *,
    images: int = 2,
    split: str = "train",
    entries: dict[int, dict[str, Any]] | None = None,
) -> Path:
    """A set of two categories, ids 3 (`cat`) and 7 (`dog`), and of images with the ids 10, 20, ...

    Args:
      root: where.
      annotations: what differs from a square `cat` in image 10 with the id 1, 2, ... of the annotation.
      images: how many.
      split: which.
      entries: {image id: what differs in its entry}.
    """
    (root / split).mkdir(parents=True)
    listed = []
    for ident in range(10, 10 * images + 1, 10):
        pixels = np.random.default_rng(ident).integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(root / split / f"{ident}.png")
        entry = {"id": ident, "file_name": f"{ident}.png", "height": SIZE[0], "width": SIZE[1]}
        listed.append(entry | (entries or {}).get(ident, {}))
    given = [{}] if annotations is None else annotations
    standard = {"image_id": 10, "category_id": 3, "segmentation": [SQUARE], "iscrowd": 0}
    content = {
        "images": listed[::-1],
        "annotations": [{"id": number, **standard, **one} for number, one in enumerate(given, 1)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    (root / f"instances_{split}.json").write_text(json.dumps(content))
    return root
