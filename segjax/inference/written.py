"""Label PNGs that `segjax predict`, or anything else, has written: read back and checked."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE, LABEL
from segjax.inference.evaluate import NAME, SIZE


def read_labels(path: str | Path, num_classes: int) -> np.ndarray:
    """int32 [H, W] of a palette, 8-bit or 16-bit grey PNG; IGNORE is void.

    Raises:
      DataError: a missing or damaged file, a colour picture, or a value that is no class.
    """
    path = Path(path)
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as picture:
            mode, labels = picture.mode, np.asarray(picture)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; `segjax predict` writes one PNG an image, by its name.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: damaged or no PNG ({str(error).splitlines()[0]}); write it again.") from error
    if labels.ndim != 2 or mode == "1":
        raise DataError(f"{path}: a {mode} picture, not label ids; write a palette or grey PNG.")
    labels = labels.astype(np.int32)
    wrong = (labels != IGNORE) & (labels >= num_classes)
    if wrong.any():
        value = int(labels[wrong][0])
        raise DataError(
            f"{path}: label {value} on {int((labels == value).sum())} pixels; the data set has classes "
            f"0..{num_classes - 1} and {IGNORE} for void."
        )
    return labels


def of_folder(folder: str | Path, num_classes: int) -> Callable[[Mapping[str, Any], Mapping[str, Any]], np.ndarray]:
    """The `predict` of `segjax.inference.evaluate.evaluate` that reads FOLDER/NAME.png for each image.

    Raises (when called):
      DataError: as `read_labels`, and where the file's size is not the image's.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"--predictions: no folder {str(folder)!r}; give the --output of `segjax predict`.")

    def predict(placed: Mapping[str, Any], batch: Mapping[str, Any]) -> np.ndarray:
        found = np.full(batch[LABEL].shape, IGNORE, np.int32)
        for i, (name, (height, width)) in enumerate(zip(batch[NAME], batch[SIZE])):
            if not name:
                continue
            path = folder / f"{name}.png"
            labels = read_labels(path, num_classes)
            if labels.shape != (height, width):
                raise DataError(
                    f"{path}: {labels.shape[0]}x{labels.shape[1]}, but the image {name} is {height}x{width}; "
                    "predict at the image's own size."
                )
            found[i, :height, :width] = labels
        return found

    return predict
