"""Images that a checkpoint can be asked about: read, and checked against what it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segjax.core.errors import DataError
from segjax.core.schema import DatasetInfo
from segjax.data.decode import Picture, open_picture


class Input(NamedTuple):
    """An image file as a network is shown it.

    Attributes:
      pixels: [H, W, C] of the network's dtype; what is no measurement is the network's mean.
      void: bool [H, W], pixels without any measurement, or None where all have some.
    """

    pixels: np.ndarray
    void: np.ndarray | None = None


def load_image(path: str | Path, info: DatasetInfo, nodata: Any = None) -> Input:
    """The image file, as training reads it: a grey image is repeated for a network of three channels, alpha is dropped.

    Args:
      nodata: the data set's option of that name, values that are no measurement besides those a TIFF declares.

    Raises:
      DataError: a file that is missing, damaged, or of other channels or another depth than the network's.
    """
    path = Path(path)
    return prepared(open_picture(path, info.channels, nodata=nodata), info, str(path))


def prepared(picture: Picture, info: DatasetInfo, name: str) -> Input:
    """What `open_picture` has read, or a rectangle of it, as a network is shown it; raises as `load_image`."""
    # Mean and std are in the order that the network sees, pictures are RGB.
    fill = info.mean[::-1] if info.channel_order == "bgr" else info.mean
    return Input(check_image(picture.filled(fill), info, name), picture.void)


def check_image(image: Any, info: DatasetInfo, name: str = "image") -> np.ndarray:
    """`image` as [H, W, C] of `info.image_dtype`; a grey [H, W] or [H, W, 1] is repeated where C is 3.

    Raises:
      DataError: not an image, other channels than the network's, or values of another range.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"{name}: shape {list(image.shape)} is not an image [H, W, C]; predict_batch takes batches.")
    found = image.shape[-1]
    if found == 1 and info.channels == 3:
        image = np.repeat(image, 3, axis=-1)
    elif found != info.channels:
        drop = " (alpha? image[..., :-1] drops it)" if found == info.channels + 1 else ""
        raise DataError(
            f"{name}: {found} channel{'s' * (found > 1)}; the network expects {info.channels}. Convert the image to "
            f"{info.channels}{drop}."
        )
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
