"""How fast OpenCV decodes a PNG by its row filter and compression level, and how large it is: what prepared images use.

    python benchmarks/png_filters.py NAME --images FOLDER [--size 1024x2048] [--count 12] [--rounds 9]

Reads `count` images spread over FOLDER (PNG, JPEG), enlarged to `--size` if given, and writes each with every filter.
Prints a table and writes the record NAME of results/png_filters.json: medians over the rounds of decoding all
images on one thread, in ms an image, bytes, and encoding time, with what Pillow writes as the measure.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import pathlib
import statistics
import time

import cv2
import numpy as np
from PIL import Image
from subjects import size_of
from turns import alternate

from segjax.data.decode import decode_image, open_image
from segjax.inference.provenance import provenance

RESULT = pathlib.Path(__file__).parent / "results" / "png_filters.json"
FILTERS = {
    "none": cv2.IMWRITE_PNG_FILTER_NONE,
    "sub": cv2.IMWRITE_PNG_FILTER_SUB,
    "up": cv2.IMWRITE_PNG_FILTER_UP,
    "average": cv2.IMWRITE_PNG_FILTER_AVG,
    "paeth": cv2.IMWRITE_PNG_FILTER_PAETH,
    "chosen by libpng": cv2.IMWRITE_PNG_ALL_FILTERS,
}
LEVELS = (1, 4, 6, 9)  # for `up`; the others at 6


def pictures(folder: pathlib.Path, count: int, size: tuple[int, int] | None) -> list[np.ndarray]:
    """uint8 RGB [H, W, 3] of `count` files spread over the folder in order of their names."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    found = [open_image(path) for path in paths[:: max(1, len(paths) // count)][:count]]
    if size is None:
        return found
    return [np.asarray(Image.fromarray(image).resize(size[::-1], Image.BICUBIC)) for image in found]


def by_pillow(image: np.ndarray) -> bytes:
    """As Pillow saves a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def by_cv2(image: np.ndarray, row_filter: str, level: int) -> bytes:
    """With one filter for all rows, or libpng's choice for each."""
    options = (cv2.IMWRITE_PNG_FILTER, FILTERS[row_filter], cv2.IMWRITE_PNG_COMPRESSION, level)
    return cv2.imencode(".png", image[..., ::-1], options)[1].tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description="PNG row filters and what they cost to undo.")
    parser.add_argument("name", help="of the record")
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--size", type=size_of, metavar="HxW", help="default: the images' own")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    load = round(os.getloadavg()[0], 1)
    images = pictures(args.images, args.count, args.size)

    ways = {"Pillow": by_pillow}
    for name in FILTERS:
        for level in LEVELS if name == "up" else (6,):
            ways[f"{name}, {level}"] = functools.partial(by_cv2, row_filter=name, level=level)
    files, rows = {}, {}
    for name, encode in ways.items():
        start = time.perf_counter()
        files[name] = [encode(image) for image in images]
        taken = time.perf_counter() - start
        for image, data in zip(images, files[name]):
            np.testing.assert_array_equal(decode_image(data), image)
        rows[name] = {"encode_ms": 1e3 * taken / len(images), "bytes": sum(map(len, files[name])) / len(images)}
    arms = {name: lambda stored=stored: [decode_image(data) for data in stored] for name, stored in files.items()}
    times = alternate(arms, args.rounds)
    for name, row in rows.items():
        row["decode_ms"] = 1e3 * statistics.median(times[name]) / len(images)
        row["decode / Pillow's"] = statistics.median(a / b for a, b in zip(times[name], times["Pillow"]))
        row["bytes / Pillow's"] = row["bytes"] / rows["Pillow"]["bytes"]
        rows[name] = {key: round(value, 3) for key, value in row.items()}
        print(f"{name:22}", rows[name])

    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    record[args.name] = {
        "images": len(images),
        "rounds": args.rounds,
        "load before": load,
        "opencv": cv2.__version__,
        "ways": rows,
        **provenance(),
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
