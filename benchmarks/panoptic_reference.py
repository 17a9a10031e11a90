"""Our grouping of pixels by centres against that of Panoptic-DeepLab's authors, on random outputs.

    python benchmarks/panoptic_reference.py CHECKOUT [--scenes 300] [--write]

CHECKOUT is a folder of bowenc0221/panoptic-deeplab at cf8e20b; its post-processing needs torch alone. Each scene is
logits in blocks, a heatmap of blobs and offsets to the nearest of them, all with noise, rounded to float16 so that
equal values occur. Written are the scenes, segments and pixels compared, and how many pixels differ in class or
instance.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import types

import numpy as np

RESULT = pathlib.Path(__file__).parent / "results" / "panoptic_reference.json"
SIZE, CLASSES, THINGS, STUFF_AREA, WINDOW = (48, 64), 5, (0, 3), 20, 7


def outputs(seed: int, height: int, width: int, classes: int, instances: int, noise: float) -> tuple[np.ndarray, ...]:
    """float16 logits [H, W, K], heatmap [H, W] and offset [H, W, 2]."""
    rng = np.random.default_rng(seed)
    blocks = rng.normal(size=(height // 4, width // 4, classes)).repeat(4, 0).repeat(4, 1)
    logits = blocks + 0.6 * rng.normal(size=blocks.shape)
    pixel = np.stack(np.mgrid[:height, :width], axis=-1)
    points = rng.uniform((0, 0), (height, width), (instances, 2))
    heatmap, offset = noise * rng.normal(size=(height, width)), 2 * rng.normal(size=(height, width, 2))
    if instances:
        away = points[:, None, None] - pixel
        squares = np.square(away).sum(-1)
        heatmap += (rng.uniform(0.2, 1, (instances, 1, 1)) * np.exp(-squares / 18)).max(0)
        offset += np.take_along_axis(away, squares.argmin(0)[None, ..., None], 0)[0]
    return tuple(array.astype(np.float16) for array in (logits, heatmap, offset))


def theirs(checkout: str, logits, heatmap, offset, things, stuff_area: int, window: int) -> np.ndarray:
    """int32 [H, W], class * 1000 + instance, 255000 in void; the module is imported without the packages around it."""
    import torch

    package = types.ModuleType("post_processing")
    package.__path__ = [str(pathlib.Path(checkout) / "segmentation/model/post_processing")]
    sys.modules["post_processing"] = package
    from post_processing.instance_post_processing import get_panoptic_segmentation

    def batch(array):
        return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]

    options = {"stuff_area": stuff_area, "nms_kernel": window, "threshold": 0.1, "top_k": 200}
    found, _ = get_panoptic_segmentation(
        batch(logits),
        batch(heatmap[..., None]),
        batch(offset),
        list(things),
        label_divisor=1000,
        void_label=255000,
        **options,
    )
    return found[0].numpy().astype(np.int32)


def numbered(found, stuff: int, image: int = 0) -> np.ndarray:
    """Our segments, the last `stuff` of them stuff, as `theirs` numbers them."""
    segment, classes = np.asarray(found["segment"][image]), np.asarray(found["segment_class"][image])
    result, seen = np.full(segment.shape, 255000), {}
    for p in np.flatnonzero(found["segment_valid"][image]):
        kind = int(classes[p])
        seen[kind] = seen.get(kind, 0) + 1
        result[segment == p + 1] = 1000 * kind + (seen[kind] if p < len(classes) - stuff else 0)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", help="folder of the reference")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    args = parser.parse_args()

    import jax
    import jax.numpy as jnp

    from segjax.postprocess.panoptic import group_by_centers

    sizes = jnp.asarray([SIZE])
    ours = jax.jit(lambda *maps: group_by_centers(*maps, sizes, THINGS, stuff_area=STUFF_AREA, window=WINDOW))
    record = {"reference": "bowenc0221/panoptic-deeplab", "commit": "cf8e20bb", "scenes": args.scenes}
    record |= {"segments": 0, "pixels": 0, "pixels_that_differ": 0}
    for seed in range(args.scenes):
        maps = outputs(seed, *SIZE, CLASSES, seed % 14, 0.06)
        expected = theirs(args.checkout, *maps, THINGS, STUFF_AREA, WINDOW)
        found = ours(*(jnp.asarray(array, jnp.float32)[None] for array in maps))
        record["segments"] += int(found["segment_valid"].sum())
        record["pixels"] += expected.size
        record["pixels_that_differ"] += int((numbered(found, CLASSES - len(THINGS)) != expected).sum())
    print(json.dumps(record, indent=2))
    if args.write:
        RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
