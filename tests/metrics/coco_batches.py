"""COCO's annotations and results as batches and predictions, and pycocotools' scores of the same."""

from __future__ import annotations

import contextlib
import io

import numpy as np

from segjax.core import rle
from segjax.data.id_layers import id_layers

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
NAMES += ("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large")  # the order of COCOeval.stats


def mask_of(segmentation, size: tuple[int, int]) -> np.ndarray:
    """bool [H, W] of polygons or of run lengths."""
    if isinstance(segmentation, dict):
        return rle.decode(segmentation["counts"], size)
    return rle.decode(rle.merge([rle.polygon(np.reshape(part, (-1, 2)), size) for part in segmentation], size), size)


def corners(boxes) -> np.ndarray:
    """float32 [n, 4] x0, y0, x1, y1 of COCO's x, y, width, height."""
    boxes = np.reshape(np.asarray(boxes, np.float64), (-1, 4))
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)


def single_images(content: dict, detections: list[dict], canvas: tuple[int, int], slots: int, layers: int, found: int):
    """Yields (predictions, batch) of each image by itself, padded to one shape; the dictionary as in a COCO file."""
    classes = {category: index for index, category in enumerate(sorted(c["id"] for c in content["categories"]))}
    for place, image in enumerate(sorted(content["images"], key=lambda image: image["id"])):
        size = (image["height"], image["width"])
        true = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        guess = [one for one in detections if one["image_id"] == image["id"]]
        numbers = id_layers([mask_of(one["segmentation"], size) for one in true], size)
        instance = padded(numbers[None], (1, *canvas, layers))
        masks = np.array([mask_of(one["segmentation"], size) for one in guess], bool).reshape(-1, *size)
        batch = {
            "instance": instance,
            "instance_class": padded([[classes[one["category_id"]] for one in true]], (1, slots), np.int32),
            "instance_valid": padded(np.ones((1, len(true))), (1, slots), bool),
            "instance_crowd": padded([[one["iscrowd"] for one in true]], (1, slots), bool),
            "instance_area": padded([[one["area"] for one in true]], (1, slots), np.float32),
            "instance_box": padded(corners([one["bbox"] for one in true])[None], (1, slots, 4)),
            "size": np.array([size], np.int32),
            "valid": np.ones(1, bool),
            "sample": np.array([place], np.int32),
        }
        predictions = {
            "box": padded(corners([one["bbox"] for one in guess])[None], (1, found, 4)),
            "class": padded([[classes[one["category_id"]] for one in guess]], (1, found), np.int32),
            "score": padded([[one["score"] for one in guess]], (1, found), np.float32),
            "valid": padded(np.ones((1, len(guess))), (1, found), bool),
            "mask": padded(masks[None], (1, found, *canvas)),
        }
        yield predictions, batch


def padded(x, shape: tuple[int, ...], dtype=None) -> np.ndarray:
    x = np.asarray(x, dtype)
    return np.pad(x, [(0, to - n) for n, to in zip(x.shape, shape, strict=True)])


def pycocotools_scores(content: dict, detections: list[dict], kind: str) -> tuple[list[float], np.ndarray]:
    """The 12 numbers of COCOeval, -1 where one does not exist, and its precision [T, R, K, A, M].

    `kind` is `segm`, `bbox`, or `segm_with_bbox_left_in`, whose areas of detections are those of the boxes.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    strip = {"segm": {"bbox"}, "bbox": {"segmentation"}}.get(kind, set())
    results = [{key: value for key, value in one.items() if key not in strip} for one in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = content
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), kind[:4])
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist(), evaluation.eval["precision"]
