"""Networks that other people trained, scored on CamVid's test images by the protocol of whoever published the score.

    python benchmarks/pretrained_camvid.py espnet --weights espnet_p_2_q_8_camvid.pth --root CAMVID
    python benchmarks/pretrained_camvid.py enet --weights enet_camvid.pth --root CAMVID [--pytorch FOLDER]

`espnet_p_2_q_8_camvid.pth` is sacmehta/ESPNet's, `enet_camvid.pth` davidtvs/PyTorch-ENet's save/ENet_default at
commit 921e40c. CAMVID has `test/*.jpg` (or png) and `testannot/*.png`, 233 of each, 11 = void. Both networks have a
twelfth output for void. With --pytorch the authors' network runs beside ours, on images that Pillow decoded; FOLDER is
what their module is imported from: a checkout of PyTorch-ENet at 921e40c, or the folder `train` of one of ESPNet at
afe71c3. Results: benchmarks/results/camvid_pretrained.json, an entry a network and kind of image.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import segjax
from segjax.convert.presets import PRESETS
from segjax.core.schema import DatasetInfo
from segjax.data.augment import normalize
from segjax.data.decode import decode_image, decode_label
from segjax.inference.predictor import Predictor
from segjax.inference.provenance import provenance
from segjax.metrics.confusion import VOIDS, confusion, scores

RESULT = pathlib.Path(__file__).parent / "results" / "camvid_pretrained.json"
CLASSES = 11
# Module and class of the authors' network, and its arguments.
THEIRS = {
    "espnet": ("Model", "ESPNet", (CLASSES + 1, 2, 8)),
    "enet": ("models.enet", "ENet", (CLASSES + 1,)),
}


def evaluate(
    name: str, weights: pathlib.Path, root: pathlib.Path, pytorch: pathlib.Path | None = None, batch: int = 4
) -> dict[str, Any]:
    """Scores under all conventions for void; `miou` and `per_class_iou` in percent under the preset's. With
    `pytorch`, the folder of the authors' code, theirs too, and `different_pixels`, whose class is not the same."""
    preset = PRESETS[f"{name}-camvid"]
    info = preset.info(f"{name}-camvid")
    model = segjax.create_model(preset.model, info.num_classes)
    predictor = Predictor(model, segjax.load_weights(model, weights), info)
    theirs = None if pytorch is None else _pytorch(name, info, weights, pytorch)

    @jax.jit
    def count(pred, labels):
        return confusion(pred, labels, jnp.ones(len(pred), bool), CLASSES)

    images = sorted(path for path in (root / "test").iterdir() if path.suffix in (".jpg", ".png"))
    matrix = np.zeros((CLASSES + 1, CLASSES + 1), np.int64)
    matrix_of_theirs, different, start = matrix.copy(), 0, time.perf_counter()
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        pixels = np.stack([decode_image(path.read_bytes()) for path in part])
        labels = np.stack([decode_label((root / "testannot" / f"{p.stem}.png").read_bytes()) for p in part])
        pred = predictor.predict_batch(pixels)
        matrix += np.asarray(count(pred, labels))
        if theirs is not None:
            other = theirs(np.stack([np.asarray(Image.open(path)) for path in part]))
            matrix_of_theirs += np.asarray(count(other, labels))
            # The twelfth class and 255 are the same void.
            different += int((np.minimum(other, CLASSES) != np.minimum(np.asarray(pred), CLASSES)).sum())
    result = {"model": preset.model, "weights": pathlib.Path(weights).name, "images": len(images)}
    result |= {"void": preset.void, **_summary(matrix, preset.void)}
    if theirs is not None:
        version = importlib.metadata.version("torch")
        summary = _summary(matrix_of_theirs, preset.void)
        result["pytorch"] = {"torch": version, "different_pixels": different, **summary}
    return {**result, "seconds": round(time.perf_counter() - start, 1)}


def _pytorch(
    name: str, info: DatasetInfo, weights: pathlib.Path, folder: pathlib.Path
) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 RGB [B, H, W, 3] -> classes int64 [B, H, W], by the authors' code and weights."""
    import torch

    sys.path.insert(0, str(folder))
    module, kind, arguments = THEIRS[name]
    net = getattr(importlib.import_module(module), kind)(*arguments)
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    net.eval()

    @torch.no_grad()
    def predict(images: np.ndarray) -> np.ndarray:
        given = np.array(normalize(jnp.asarray(images), info.mean, info.std, info.channel_order))
        given = torch.from_numpy(given).permute(0, 3, 1, 2)
        return net(given.contiguous()).argmax(1).numpy()

    return predict


def _summary(matrix: np.ndarray, void: str) -> dict[str, Any]:
    by_void = {convention: scores(matrix, convention) for convention in VOIDS}
    chosen = by_void[void]
    return {
        "miou": 100 * chosen["miou"],
        "class_average": 100 * chosen["mean_accuracy"],
        "pixel_accuracy": 100 * chosen["pixel_accuracy"],
        "per_class_iou": [round(100 * value, 2) for value in chosen["per_class_iou"]],
        "miou_by_void": {convention: 100 * found["miou"] for convention, found in by_void.items()},
        "confusion": matrix.tolist(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(THEIRS))
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True, help="CamVid's folder")
    parser.add_argument("--pytorch", type=pathlib.Path, help="folder to import the authors' network from")
    args = parser.parse_args()
    result = {**evaluate(args.name, args.weights, args.root, args.pytorch), **provenance()}
    print(json.dumps(result))
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    kind = "png" if any((args.root / "test").glob("*.png")) else "jpg"
    record[f"{args.name}-{kind}"] = result
    RESULT.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
