"""Images that a checkpoint can be asked about: read, and checked against what it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import DatasetInfo
from segjax.data.decode import open_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy")


def load_image(path: str | Path, info: DatasetInfo) -> np.ndarray:
    """The image file as [H, W, C] of the checkpoint's dtype.

    Raises:
      DataError: a file that is missing, damaged, or of other channels or another depth than the network's.
    """
    path = Path(path)
    image = open_image(path, 4 if info.channels == 4 else None)
    return check_image(image, info, str(path))


def check_image(image: Any, info: DatasetInfo, name: str = "image") -> np.ndarray:
    """`image` as [H, W, C] of `info.image_dtype`; a grey [H, W] becomes [H, W, 1].

    Raises:
      DataError: not an image, other channels than the network's, or values of another range.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"{name}: shape {list(image.shape)} is not an image [H, W, C]; predict_batch takes batches.")
    found = image.shape[-1]
    if found != info.channels:
        kind = "grey image, 1 channel" if found == 1 else f"{found} channels"
        raise DataError(f"{name}: {kind}; the network expects {info.channels}. Convert the image to {info.channels}.")
    return _as_dtype(image, info, name)


def _as_dtype(image: np.ndarray, info: DatasetInfo, name: str) -> np.ndarray:
    wanted = np.dtype(info.image_dtype)
    if image.dtype == wanted:
        return image
    if wanted.kind == "f" and image.dtype.kind in "uif":
        return image.astype(wanted)
    if image.dtype.kind == "f":
        largest = float(image.max())
        if np.isfinite(image).all() and image.min() >= 0 and largest <= np.iinfo(wanted).max:
            if 0 < largest <= 1:
                raise DataError(
                    f"{name}: values within 0..1, the network was trained on {wanted} pixels; "
                    f"multiply by {np.iinfo(wanted).max}."
                )
            return np.rint(image).astype(wanted)
        raise DataError(f"{name}: values outside those of {wanted}, which the network was trained on; rescale them.")
    raise DataError(
        f"{name}: {image.dtype} pixels, the network was trained on {wanted}; rescale the image to {wanted}."
    )
