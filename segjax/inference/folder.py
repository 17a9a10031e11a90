"""Many image files to many label files, in the batches and at the padded size that evaluation uses.

Reading, the network and writing overlap: while the device labels a batch, threads decode the next and write the last.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.files import write_bytes
from segjax.data.decode import image_size
from segjax.data.limits import check_pixels, max_pixels
from segjax.data.tiff import TiffReader, is_tiff
from segjax.inference import draw
from segjax.inference.canvas import Size, canvases
from segjax.inference.images import Input, load_image
from segjax.inference.label_writer import write_labels
from segjax.inference.large import LARGE, LargeImages
from segjax.inference.predictor import Predictor
from segjax.tasks.semantic.view import Prediction

THREADS = 4


def label_files(
    predictor: Predictor,
    paths: Sequence[Path],
    targets: Sequence[Path],
    *,
    overlay: bool = False,
    alpha: float = 0.5,
    probabilities: bool = False,
    large_suffix: str | None = None,
) -> Iterator[tuple[Path, DataError | None]]:
    """Labels each image of `paths` into the PNG or TIFF, by its suffix, of `targets` at the same place.

    TIFF images of more than `LARGE` pixels are read, labelled and written a band of rows at a time where the predictor
    has a window and sees images in no way that needs them whole.

    Args:
      overlay: also write `overlays/NAME.png` beside the target.
      alpha: share of the classes' colours in overlays.
      probabilities: also write `probabilities/NAME.npy`, float16 [H, W, K], beside the target.
      large_suffix: replaces the suffix of the targets of such large images.

    Yields:
      Each path, in any order, when its files are written (None), or with what is wrong with it.

    Raises:
      StorageError: a file cannot be written.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        sizes = list(pool.map(lambda path: _attempt(image_size, path), paths))
        large, readable = [], []
        for path, target, size in zip(paths, targets, sizes):
            fault = size if isinstance(size, DataError) else None
            if fault is None and _in_bands(predictor, path, size):
                large.append((path, target if large_suffix is None else target.with_suffix(large_suffix)))
                continue
            if fault is None:
                fault = _attempt(check_pixels, path, *size)
            if fault is None:
                readable.append((path, target, size))
            else:
                yield path, fault
        if readable:
            yield from _label_whole(
                predictor, readable, pool, overlay=overlay, alpha=alpha, probabilities=probabilities
            )
    for path, target in large:
        if overlay or probabilities:
            what = "--overlay" if overlay else "--probabilities"
            yield (
                path,
                DataError(f"{path}: {what} needs the whole of an image that is labelled in bands; leave it out."),
            )
            continue
        yield path, _attempt(_label_large, predictor, path, target)


def _label_whole(
    predictor: Predictor,
    readable: Sequence[tuple[Path, Path, Size]],
    pool: ThreadPoolExecutor,
    *,
    overlay: bool,
    alpha: float,
    probabilities: bool,
) -> Iterator[tuple[Path, DataError | None]]:
    fixed = None if predictor.config is None else predictor.config.eval.size
    groups: dict[Size, list[tuple[Path, Path]]] = defaultdict(list)
    for (path, target, _), canvas in zip(readable, canvases([size for *_, size in readable], predictor.stride, fixed)):
        groups[canvas].append((path, target))

    def start_reading(part: Sequence[tuple[Path, Path]]) -> list[Future]:
        return [pool.submit(_attempt, load_image, path, predictor.info, predictor.nodata) for path, _ in part]

    def write(path: Path, target: Path, image: Input, prediction: Prediction) -> None:
        prediction = prediction.without(image.void)
        if target.suffix == ".png":
            prediction.save(target)
        else:
            labels = prediction.labels
            write_labels(target, [labels], labels.shape, predictor.info.palette, _georeference(path))
        if overlay:
            picture = prediction.overlay(image.pixels, alpha)
            draw.save_picture(target.parent / "overlays" / f"{target.stem}.png", picture)
        if probabilities:
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
        whole = [(file, image) for file, image in zip(files, images) if isinstance(image, Input)]
        for (path, _), image in zip(files, images):
            if isinstance(image, DataError):
                yield path, image
        yield from _finished(writing)
        writing = []
        if whole:
            pixels = [image.pixels for _, image in whole]
            options = {"probabilities": True} if probabilities else {}
            found = predictor.predict(pixels, canvas=canvas, **options)
            writing = [
                (path, pool.submit(write, path, target, image, prediction))
                for ((path, target), image), prediction in zip(whole, found)
            ]
    yield from _finished(writing)


def _in_bands(predictor: Predictor, path: Path, size: Size) -> bool:
    """Whether an image is labelled a band at a time; what must be whole and is not too large for it is not."""
    if size[0] * size[1] <= LARGE or getattr(predictor, "window", None) is None or not is_tiff(path):
        return False
    return size[0] * size[1] > max_pixels() or not isinstance(_attempt(LargeImages, predictor), DataError)


def _label_large(predictor: Predictor, path: Path, target: Path) -> None:
    large = LargeImages(predictor)
    with TiffReader(path) as reader:
        palette, place = predictor.info.palette, _carried(reader)
        write_labels(target, large.bands(path, reader), reader.shape[:2], palette, place)


def _georeference(path: Path) -> dict[int, tuple[int, Any]]:
    """Of a TIFF, else nothing."""
    if not is_tiff(path):
        return {}
    with TiffReader(path) as reader:
        return _carried(reader)


def _carried(reader: TiffReader) -> dict[int, tuple[int, Any]]:
    """The georeference, which is that of the stored rows: labels are upright."""
    return reader.georeference if reader.orientation == 1 else {}


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
