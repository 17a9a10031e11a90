"""Small annotated sources on disk, and imports of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segjax.cli.main import main

TRIANGLE = [2, 2, 12, 2, 2, 9]
SIZE = (12, 16)


def photo(path: Path, size: tuple[int, int] = SIZE, orientation: int | None = None) -> Path:
    """An RGB image of (height, width) pixels, with an EXIF orientation if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def coco(
    path: Path,
    annotations: Sequence[dict[str, Any]],
    *,
    names: Sequence[str] = ("a.png",),
    categories: Sequence[str] = ("cat", "dog"),
    size: tuple[int, int] = SIZE,
    write: bool = True,
) -> Path:
    """A COCO file; `write` also makes its images beside it. Annotations get an id, image 0 and category 1."""
    if write:
        for name in names:
            photo(path.parent / name, size)
    content = {
        "images": [{"id": k, "file_name": name, "height": size[0], "width": size[1]} for k, name in enumerate(names)],
        "annotations": [{"id": k, "image_id": 0, "category_id": 1, **a} for k, a in enumerate(annotations)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(categories, 1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def labelme(path: Path, shapes: Sequence[dict[str, Any]], **more: Any) -> Path:
    """A labelme file of an image of SIZE that is called as it is, with .png."""
    content = {
        "version": "5.5.0",
        "imagePath": f"{path.stem}.png",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
        "shapes": list(shapes),
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def shape(label: str, points: Sequence[Sequence[float]], kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, **more}


def run(source_format: str, source: Path, root: Path, *options: str) -> int:
    """`segjax data import`; the exit status."""
    return main(["data", "import", "--from", source_format, str(source), "--root", str(root), *map(str, options)])


def label(root: Path, name: str, split: str = "train") -> np.ndarray:
    """A label map that was written, 8 bits grey."""
    with Image.open(root / split / "labels" / f"{name}.png") as image:
        assert image.mode == "L"
        return np.asarray(image)


def classes(root: Path) -> list[str]:
    """Class names of classes.txt."""
    return [" ".join(line.split()[:-3]) for line in (root / "classes.txt").read_text(encoding="utf-8").splitlines()]
