"""Memory and time of `segjax predict --window` on a TIFF image of any size, and whether its labels are right.

    python benchmarks/large_predict.py --size 20000 --output benchmarks/results/large_predict.json

Writes a tiled three-band uint8 TIFF of procedural texture and a checkpoint of an untrained U-Net of four channels,
labels the image through the command line, and compares windows of the labels with what the predictor
says of crops of the image, whose windows lie where the image's do. Several sizes are kept in one file.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WINDOW = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs="+", default=[20000], help="sides of the square images, in pixels")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--blend", default="gaussian")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--crops", type=int, default=12, help="how many crops are compared")
    parser.add_argument("--folder", help="where the image and the labels are written; default: a temporary folder")
    parser.add_argument("--output", help="JSON file of the records; records of other sizes in it are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        records = [measure(Path(folder), size, args) for size in args.size]
    for record in records:
        print(json.dumps(record))
    if args.output is not None:
        keep(Path(args.output), records)


def measure(folder: Path, size: int, args: argparse.Namespace) -> dict:
    image, run, out = folder / f"image{size}.tif", folder / "run", folder / f"labels{size}"
    write_image(image, size)
    if not run.exists():
        write_checkpoint(run)
    command = [sys.executable, "-m", "segjax.cli.main", "predict", "--checkpoint", str(run), "--input", str(image)]
    command += ["--output", str(out), "--window", str(WINDOW), str(WINDOW), "--blend", args.blend]
    command += ["--overlap", str(args.overlap), "--batch-size", str(args.batch_size)]
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    wrong, compared = compare(run, image, out / f"{image.stem}.tif", size, args)
    record = {
        "size": [size, size],
        "bands": 3,
        "dtype": "uint8",
        "image_bytes": image.stat().st_size,
        "model": "unet, base_channels 4, depth 3",
        "classes": 4,
        "window": [WINDOW, WINDOW],
        "overlap": args.overlap,
        "blend": args.blend,
        "batch_size": args.batch_size,
        "cores": os.cpu_count(),
        "seconds": round(seconds, 1),
        "peak_bytes": peak,
        "crops": args.crops,
        "pixels_compared": compared,
        "pixels_that_differ": wrong,
    }
    image.unlink()
    return record


def write_image(path: Path, size: int) -> None:
    """Waves of several lengths and noise, a row of tiles at a time."""
    import tifffile

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (512, 512, 3), np.uint8)

    def tiles():
        for top in range(0, size, 512):
            for left in range(0, size, 512):
                y, x = np.mgrid[top : top + 512, left : left + 512].astype(np.float32)
                waves = [np.sin(x / a + np.sin(y / b)) * np.cos(y / a) for a, b in ((37, 90), (151, 61), (613, 240))]
                yield (np.stack(waves, -1) * 100 + 110).astype(np.uint8) + noise

    with tifffile.TiffWriter(path, bigtiff=size * size * 3 > 2**32 - 2**25) as writer:
        options = {"photometric": "rgb", "compression": "zlib", "compressionargs": {"level": 1}}
        writer.write(tiles(), shape=(size, size, 3), dtype=np.uint8, tile=(512, 512), metadata=None, **options)


def write_checkpoint(workdir: Path) -> None:
    """An untrained network's, as a run would leave it."""
    from segjax.core.config import from_dict, to_dict
    from segjax.core.registry import create_model
    from segjax.core.schema import DatasetInfo
    from segjax.parallel.mesh import make_mesh
    from segjax.training.checkpoint import Checkpointer
    from segjax.training.optim import make_optimizer
    from segjax.training.schedules import make_schedule
    from segjax.training.state import init_state, init_variables

    options = {"base_channels": 4, "depth": 3}
    config = from_dict({"model": {"name": "unet", "options": options}, "data": {"name": "folder"}})
    palette = ((0, 0, 0), (220, 40, 40), (40, 180, 60), (50, 80, 220))
    info = DatasetInfo(name="waves", classes=("a", "b", "c", "d"), palette=palette, mean=(130.0,) * 3, std=(60.0,) * 3)
    weights = init_variables(create_model("unet", num_classes=4, **options), 0, (64, 64, 3))
    tx = make_optimizer(config.optim, make_schedule(config.schedule, 1e-3, 10), weights["params"])
    checkpointer = Checkpointer(workdir, config=to_dict(config), info=info, best="miou", resume=False)
    checkpointer.save(1, init_state(weights, tx, make_mesh(), ema=False), iterator={}, metrics={"miou": 0.1})
    checkpointer.close()


def compare(run: Path, image: Path, labels: Path, size: int, args: argparse.Namespace) -> tuple[int, int]:
    """How many pixels of crops differ, of how many; the crops' borders, which see less, do not count."""
    from segjax import Predictor
    from segjax.data.tiff import TiffReader

    settings = {"window": (WINDOW, WINDOW), "overlap": args.overlap, "blend": args.blend}
    predictor = Predictor.from_checkpoint(run, batch_size=args.batch_size, **settings)
    rng = np.random.default_rng(1)
    step = int(WINDOW * (1 - args.overlap))
    side, wrong, compared = 3 * WINDOW, 0, 0
    with TiffReader(image) as source, TiffReader(labels) as found:
        for _ in range(args.crops):
            # Windows of the image lie at multiples of the step, except for the last, which ends at its border.
            top, left = (int(n) * step for n in rng.integers(0, (size - side - WINDOW) // step, 2))
            pixels = source.read(top, left, top + side, left + side)
            expected = predictor.predict([pixels])[0].labels[WINDOW:-WINDOW, WINDOW:-WINDOW]
            inside = found.read(top + WINDOW, left + WINDOW, top + side - WINDOW, left + side - WINDOW)[..., 0]
            wrong += int((inside != expected).sum())
            compared += expected.size
    return wrong, compared


def keep(path: Path, records: list[dict]) -> None:
    from segjax.inference.provenance import provenance

    old = json.loads(path.read_text())["runs"] if path.is_file() else []
    sizes = [record["size"] for record in records]
    runs = sorted([run for run in old if run["size"] not in sizes] + records, key=lambda run: run["size"])
    for record in records:
        record |= provenance()
    path.write_text(json.dumps({"kind": "large_predict", "runs": runs}, indent=2) + "\n")


if __name__ == "__main__":
    main()
