"""How far colour and place alone go on scenes: a linear per-pixel classifier, scored on held-out scenes.

    python benchmarks/scenes_linear.py [--name street] [--train 400] [--test 200]
    python benchmarks/scenes_linear.py --name quickstart --config configs/quickstart.py

A softmax regression on the pixel's RGB, with and without its position, is what a network must beat to have learnt any
texture, shape or context. Prints one JSON line, and keeps it in benchmarks/results/scenes_linear.json,
one entry a name.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

from segjax.core.config import load_config
from segjax.core.schema import IGNORE
from segjax.data.scenes import SceneSource, dataset_info

RESULT = pathlib.Path(__file__).parent / "results" / "scenes_linear.json"


def features(image: np.ndarray, *, position: bool) -> np.ndarray:
    """RGB in -1..1 of [H, W, 3], and the pixel's x, y in -1..1 if asked: float64 [H * W, 3 or 5]."""
    height, width = image.shape[:2]
    columns = [image.reshape(-1, 3) / 127.5 - 1.0]
    if position:
        y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
        columns += [x.reshape(-1, 1), y.reshape(-1, 1)]
    return np.concatenate(columns, 1)


def training_pixels(source: SceneSource, per_scene: int, *, position: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random labelled pixels of every scene."""
    rng = np.random.default_rng(0)
    rows, targets = [], []
    for i in range(len(source)):
        item = source[i]
        label = item["label"].ravel()
        chosen = rng.choice(np.flatnonzero(label != IGNORE), per_scene)
        rows.append(features(item["image"], position=position)[chosen])
        targets.append(label[chosen])
    return np.concatenate(rows), np.concatenate(targets)


def score(model: LogisticRegression, source: SceneSource, num_classes: int, *, position: bool) -> dict:
    """Mean and per-class IoU and pixel accuracy over all labelled pixels of a split."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for i in range(len(source)):
        item = source[i]
        truth = item["label"].ravel()
        guess = model.predict(features(item["image"], position=position))
        counted = truth != IGNORE
        matrix += np.bincount(truth[counted] * num_classes + guess[counted], minlength=num_classes**2).reshape(
            matrix.shape
        )
    hit = np.diag(matrix).astype(float)
    union = matrix.sum(0) + matrix.sum(1) - hit
    iou = np.divide(hit, union, out=np.full(num_classes, np.nan), where=union > 0)
    return {"miou": float(np.nanmean(iou)), "pixel_accuracy": float(hit.sum() / matrix.sum()), "iou": iou}


def commit() -> str:
    """The commit of this checkout, `unknown` outside one."""
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent
    )
    return answer.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description="Linear per-pixel baseline on scenes.")
    parser.add_argument("--name", default="street", help="of the entry")
    parser.add_argument("--config", help="take the scenes of this config's data.options; default: the default scenes")
    parser.add_argument("--train", type=int, default=400, help="training scenes")
    parser.add_argument("--test", type=int, default=200, help="held-out scenes")
    parser.add_argument("--pixels", type=int, default=250, help="training pixels a scene")
    args = parser.parse_args()

    options = dict(load_config(args.config).data.options) if args.config else {}
    options.pop("count", None)
    train, test = (SceneSource(s, count=n, **options) for s, n in (("train", args.train), ("test", args.test)))
    classes = dataset_info(train.style).classes
    entry = {
        "command": " ".join(["python", "benchmarks/scenes_linear.py", *sys.argv[1:]]),
        "scenes": {k: getattr(test, k) for k in ("style", "height", "width", "zoom", "time", "seed")},
        "train_scenes": args.train,
        "test_scenes": args.test,
        "device": platform.processor() or platform.machine(),
        "commit": commit(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
    }
    for name, position in (("rgb", False), ("rgb_position", True)):
        start = time.perf_counter()
        model = LogisticRegression(max_iter=400).fit(*training_pixels(train, args.pixels, position=position))
        result = score(model, test, len(classes), position=position)
        entry[name] = {
            "miou": round(result["miou"], 4),
            "pixel_accuracy": round(result["pixel_accuracy"], 4),
            "iou": {c: round(float(v), 4) for c, v in zip(classes, result["iou"]) if np.isfinite(v)},
            "seconds": round(time.perf_counter() - start, 1),
        }
    print(json.dumps(entry))
    RESULT.parent.mkdir(exist_ok=True)
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    known[args.name] = entry
    RESULT.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
