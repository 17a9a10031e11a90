"""Networks that other people trained, scored on CamVid's test images by the protocol of whoever published the score.

    python benchmarks/pretrained_camvid.py espnet --weights espnet_p_2_q_8_camvid.pth --root CAMVID
    python benchmarks/pretrained_camvid.py enet --weights enet_camvid.pth --root CAMVID

`espnet_p_2_q_8_camvid.pth` is sacmehta/ESPNet's, `enet_camvid.pth` davidtvs/PyTorch-ENet's save/ENet_default at
commit 921e40c. CAMVID has `test/*.jpg` (or png) and `testannot/*.png`, 233 of each, 11 = void. Both networks have a
twelfth output for void. Results: benchmarks/results/camvid_pretrained.json, one entry a network.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import segjax
from segjax.core.schema import LOGITS
from segjax.data.decode import decode_image, decode_label
from segjax.inference.provenance import provenance
from segjax.metrics.confusion import confusion, scores

RESULT = pathlib.Path(__file__).parent / "results" / "camvid_pretrained.json"
CLASSES = 11


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a network's authors feed and score it.

    Attributes:
      model: ours.
      normalize: uint8 RGB [B, H, W, 3] -> what the network takes.
      void: the convention of the published score, see `segjax.metrics.confusion.scores`.
    """

    model: str
    normalize: Callable[[jax.Array], jax.Array]
    void: str


def _espnet_input(images: jax.Array) -> jax.Array:
    """BGR, by the training set's mean and deviation, and then by 255, as in the authors' VisualizeResults.py."""
    mean, std = jnp.array([110.33139, 108.40919, 105.03353]), jnp.array([72.125206, 72.68849, 69.902596])
    return (images[..., ::-1].astype(jnp.float32) - mean) / std / 255


PROTOCOLS = {
    "espnet": Protocol("espnet/p2-q8", _espnet_input, "union"),
    "enet": Protocol("enet/davidtvs-2018", lambda images: images.astype(jnp.float32) / 255, "ignore"),
}


def evaluate(name: str, weights: pathlib.Path, root: pathlib.Path, batch: int = 4) -> dict:
    """Scores under all conventions for void; `miou` and `per_class_iou` in percent under the protocol's."""
    protocol = PROTOCOLS[name]
    model = segjax.create_model(protocol.model, CLASSES + 1)
    variables = segjax.load_weights(model, weights)

    @jax.jit
    def count(variables, images, labels):
        logits = model.apply(variables, protocol.normalize(images), train=False)[LOGITS]
        return confusion(logits.argmax(-1), labels, jnp.ones(len(images), bool), CLASSES)

    images = sorted(path for path in (root / "test").iterdir() if path.suffix in (".jpg", ".png"))
    matrix, start = np.zeros((CLASSES + 1, CLASSES + 1), np.int64), time.perf_counter()
    for first in range(0, len(images), batch):
        part = images[first : first + batch]
        pixels = np.stack([decode_image(path.read_bytes()) for path in part])
        labels = np.stack([decode_label((root / "testannot" / f"{p.stem}.png").read_bytes()) for p in part])
        matrix += np.asarray(count(variables, pixels, labels))
    by_void = {void: scores(matrix, void) for void in ("ignore", "union", "drop")}
    chosen = by_void[protocol.void]
    return {
        "model": protocol.model,
        "weights": pathlib.Path(weights).name,
        "images": len(images),
        "void": protocol.void,
        "miou": 100 * chosen["miou"],
        "class_average": 100 * chosen["mean_accuracy"],
        "pixel_accuracy": 100 * chosen["pixel_accuracy"],
        "per_class_iou": [round(100 * value, 2) for value in chosen["per_class_iou"]],
        "miou_by_void": {void: 100 * found["miou"] for void, found in by_void.items()},
        "confusion": matrix.tolist(),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(PROTOCOLS))
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--root", type=pathlib.Path, required=True, help="CamVid's folder")
    args = parser.parse_args()
    result = {**evaluate(args.name, args.weights, args.root), **provenance()}
    print(json.dumps({key: value for key, value in result.items() if key != "confusion"}, indent=2))
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record[args.name] = result
    RESULT.write_text(json.dumps(dict(sorted(record.items())), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
