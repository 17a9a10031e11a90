"""Many image files to many label files, in the batches and at the padded size that evaluation uses.

Reading, the network and writing overlap: while the device labels a batch, threads decode the next and write the last.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from segjax.core.errors import DataError
from segjax.core.files import write_bytes
from segjax.inference import draw
from segjax.inference.canvas import Size, canvases
from segjax.inference.images import load_image
from segjax.inference.predictor import Prediction, Predictor

_ROTATED = 5  # EXIF orientations from here on swap height and width
_ORIENTATION = 0x0112
THREADS = 4


def label_files(
    predictor: Predictor,
    paths: Sequence[Path],
    targets: Sequence[Path],
    *,
    overlay: bool = False,
    alpha: float = 0.5,
    probabilities: bool = False,
) -> Iterator[tuple[Path, DataError | None]]:
    """Labels each image of `paths` into the PNG of `targets` at the same place.

    Args:
      overlay: also write `overlays/NAME.png` beside the target.
      alpha: share of the classes' colours in overlays.
      probabilities: also write `probabilities/NAME.npy`, float16 [H, W, K], beside the target.

    Yields:
      Each path, in any order, when its files are written (None), or with what is wrong with it.

    Raises:
      StorageError: a file cannot be written.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(lambda path: _attempt(image_size, path, predictor), paths))
        for path, size in zip(paths, sizes):
            if isinstance(size, DataError):
                yield path, size
        readable = [
            (path, target, size) for path, target, size in zip(paths, targets, sizes) if isinstance(size, tuple)
        ]
        if not readable:
            return
        fixed = None if predictor.config is None else predictor.config.eval.size
        groups: dict[Size, list[tuple[Path, Path]]] = defaultdict(list)
        for (path, target, _), canvas in zip(
            readable, canvases([size for *_, size in readable], predictor.stride, fixed)
        ):
            groups[canvas].append((path, target))

        def start_reading(part: Sequence[tuple[Path, Path]]) -> list[Future]:
            return [pool.submit(_attempt, load_image, path, predictor.info) for path, _ in part]

        def write(target: Path, image: np.ndarray, prediction: Prediction) -> None:
            prediction.save(target)
            if overlay:
                draw.save_picture(target.parent / "overlays" / target.name, prediction.overlay(image, alpha))
            if prediction.probabilities is not None:
                _save_probabilities(target.parent / "probabilities" / f"{target.stem}.npy", prediction.probabilities)

        parts = [
            (canvas, files[start : start + predictor.batch_size])
            for canvas, files in groups.items()
            for start in range(0, len(files), predictor.batch_size)
        ]
        reading = start_reading(parts[0][1])
        writing: list[tuple[Path, Future]] = []
        for index, (canvas, files) in enumerate(parts):
            images = [future.result() for future in reading]
            reading = start_reading(parts[index + 1][1]) if index + 1 < len(parts) else []
            whole = [(file, image) for file, image in zip(files, images) if isinstance(image, np.ndarray)]
            for (path, _), image in zip(files, images):
                if isinstance(image, DataError):
                    yield path, image
            yield from _finished(writing)
            writing = []
            if whole:
                found = predictor.predict([image for _, image in whole], canvas=canvas, probabilities=probabilities)
                writing = [
                    (path, pool.submit(write, target, image, prediction))
                    for ((path, target), image), prediction in zip(whole, found)
                ]
        yield from _finished(writing)


def image_size(path: Path, predictor: Predictor) -> Size:
    """(height, width) of an image file, from its header where that tells; raises DataError for an unreadable one."""
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False).shape[:2]
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            with Image.open(path) as picture:
                width, height = picture.size
                rotated = picture.getexif().get(_ORIENTATION, 1) >= _ROTATED
                return (width, height) if rotated else (height, width)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        pass  # reading the whole file says better what is wrong with it
    return load_image(path, predictor.info).shape[:2]


def _attempt(function, *arguments):
    """The function's value, or the DataError it raised."""
    try:
        return function(*arguments)
    except DataError as error:
        return error


def _finished(writing: Sequence[tuple[Path, Future]]) -> Iterator[tuple[Path, None]]:
    for path, future in writing:
        future.result()
        yield path, None


def _save_probabilities(path: Path, probabilities: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, probabilities.astype(np.float16), allow_pickle=False)
    write_bytes(path, buffer.getvalue())
