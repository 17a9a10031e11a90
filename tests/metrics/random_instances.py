"""Random truth and detections in COCO's form, rich in what COCO's rules are about.

Scores and IoUs are tied, areas lie at the borders of the ranges, some instances are crowds, a class has no instance,
and images lack instances or detections."""

from __future__ import annotations

import numpy as np

from segjax.core import rle

SIZES = ((120, 160), (160, 120), (97, 131))
CLASSES = (3, 5, 7, 11)
BORDER = ((32, 32), (64, 16), (96, 96), (128, 72), (31, 33))  # 1024 and 9216 pixels, and one less than the first


def instances(seed: int, images: int, most: int) -> tuple[dict, list[dict]]:
    """A COCO file as a dictionary, and detections: rectangles, some with a bite out, fewer than `most` an image."""
    rng = np.random.default_rng(seed)
    content: dict = {"images": [], "annotations": [], "categories": [{"id": c, "name": str(c)} for c in CLASSES]}
    detections: list[dict] = []
    for place in range(images):
        size = SIZES[place % len(SIZES)]
        image = 100 - place
        content["images"].append({"id": image, "height": size[0], "width": size[1]})
        true = []
        for _ in range(rng.integers(1, most // 2) if place % 5 else 0):
            box, category = _box(rng, size), _category(rng)
            if true and rng.random() < 0.3:  # a twin, beside which a detection may lie half way
                (x, y, w, h), category = true[-1]
                box = [min(x + 2, size[1] - w), y, w, h]
            record = _record(rng, box, size, image, category)
            content["annotations"].append(
                {
                    **record,
                    "id": len(content["annotations"]) + 1,
                    "iscrowd": int(rng.random() < 0.15),
                    "area": float(rle.area(rle.decompress(record["segmentation"]["counts"])) * rng.choice([1, 1, 0.9])),
                }
            )
            true.append((box, category))
        for _ in range(rng.integers(1, most) if place % 4 != 3 else 0):
            box, category = true[rng.integers(len(true))] if true and rng.random() < 0.8 else (_box(rng, size), 3)
            if rng.random() < 0.7:
                box = _moved(rng, box, size)
            record = _record(rng, box, size, image, category if rng.random() < 0.85 else _category(rng))
            detections.append({**record, "score": int(rng.integers(1, 9)) / 8})
    return content, detections


def _category(rng: np.random.Generator) -> int:
    return int(CLASSES[rng.integers(len(CLASSES) - 1)])  # the last class has no instance and no detection


def _box(rng: np.random.Generator, size: tuple[int, int]) -> list[int]:
    """x, y, width, height within the image."""
    height, width = size
    w, h = BORDER[rng.integers(len(BORDER))] if rng.random() < 0.5 else rng.integers(2, 90, 2)
    w, h = min(int(w), width), min(int(h), height)
    return [int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1)), w, h]


def _moved(rng: np.random.Generator, box: list[int], size: tuple[int, int]) -> list[int]:
    x, y, w, h = np.maximum(np.add(box, rng.integers(-4, 5, 4)), [0, 0, 1, 1]).tolist()
    x, y = min(x, size[1] - 1), min(y, size[0] - 1)
    return [x, y, min(w, size[1] - x), min(h, size[0] - y)]


def _record(rng: np.random.Generator, box: list[int], size: tuple[int, int], image: int, category: int) -> dict:
    x, y, w, h = box
    mask = np.zeros(size, bool)
    mask[y : y + h, x : x + w] = True
    if rng.random() < 0.3:
        mask[y : y + h // 3, x : x + w // 2] = False
    packed = {"size": list(size), "counts": rle.compress(rle.encode(mask))}
    return {"segmentation": packed, "bbox": box, "category_id": category, "image_id": image}
