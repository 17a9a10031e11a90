"""Label files that `segjax predict`, or anything else, has written: found by the images' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, LABEL
from segjax.data.labels import read_ids
from segjax.data.layout import LABEL_SUFFIXES
from segjax.inference.evaluate import NAME, SIZE


def of_folder(folder: str | Path, num_classes: int) -> Callable[[Mapping[str, Any], Mapping[str, Any]], np.ndarray]:
    """The `predict` of `segjax.inference.evaluate.evaluate` that reads the label file FOLDER/NAME.* for each image.

    Raises (when called):
      DataError: as `segjax.data.labels.read_ids`, where an image has no such file or several, and where the file's size
        is not the image's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"--predictions: no folder {str(folder)!r}; give the --output of `segjax predict`.")

    def predict(placed: Mapping[str, Any], batch: Mapping[str, Any]) -> np.ndarray:
        found = np.full(batch[LABEL].shape, IGNORE, np.int32)
        for i, (name, (height, width)) in enumerate(zip(batch[NAME], batch[SIZE])):
            if not name:
                continue
            path = label_file(folder, name)
            labels = read_ids(path, num_classes)
            if labels.shape != (height, width):
                raise DataError(
                    f"{path}: {labels.shape[0]}x{labels.shape[1]}, but the image {name} is {height}x{width}; "
                    "predict at the image's own size."
                )
            found[i, :height, :width] = labels
        return found

    return predict


def label_file(folder: Path, name: str) -> Path:
    """FOLDER/NAME with the suffix of a label file, in small or capital letters.

    Raises:
      DataError: there is none, or more than one.
    """
    paths = [folder / f"{name}{suffix}" for small in LABEL_SUFFIXES for suffix in (small, small.upper())]
    there = list({path.resolve(): path for path in paths if path.is_file()}.values())
    if not there:
        raise DataError(
            f"{folder / name}.png: no such file, nor one ending in {', '.join(LABEL_SUFFIXES[1:])}; `segjax predict` "
            "writes one an image, by its name."
        )
    if len(there) > 1:
        raise DataError(f"{there[0]}: {there[1].name} lies beside it; keep the one that counts.")
    return there[0]
