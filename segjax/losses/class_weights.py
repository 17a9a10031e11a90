"""Class weights from how often each class occurs in the training set."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from segjax.core.errors import ConfigError, DataError, suggest
from segjax.losses import CLASS_WEIGHTS


def class_weights(
    kind: str, pixel_counts: np.ndarray, image_counts: np.ndarray, *, classes: Sequence[str] = ()
) -> np.ndarray:
    """Class weights of a kind, from counts over the training set. A class without a pixel gets weight 0 and a warning.

    median_frequency (auto): median(f) / f, where f is a class's pixels over all pixels of the images that contain it,
      and the median is over the classes that occur (Eigen and Fergus, ICCV 2015; used by SegNet).
    enet_log: 1 / ln(1.02 + p), where p is a class's share of all pixels (Paszke et al., ENet, arXiv:1606.02147);
      between 1.4 and 50.
    none: ones.

    Args:
      kind: one of `segjax.losses.CLASS_WEIGHTS`.
      pixel_counts: [K], pixels of each class, ignored pixels left out.
      image_counts: [K], the size of the images that contain each class: how many they are where all are of one size,
        else how many pixels they have (a common factor cancels in the median).
      classes: K names for the warning.

    Returns:
      float32 [K].

    Raises:
      ConfigError: an unknown kind.
      DataError: no pixel of any class, or a class with pixels but no image.
    """
    if kind not in CLASS_WEIGHTS:
        raise ConfigError(f"unknown class weights {kind!r}.{suggest(kind, CLASS_WEIGHTS)}")
    pixels = np.asarray(pixel_counts, np.float64)
    images = np.asarray(image_counts, np.float64)
    if kind == "none":
        return np.ones(pixels.shape, np.float32)
    present = pixels > 0
    names = [classes[k] if k < len(classes) else str(k) for k in range(pixels.size)]
    if not present.any():
        raise DataError(f"class weights {kind!r}: no pixel of any class was counted; use class weights 'none'")
    if not present.all():
        absent = ", ".join(name for name, there in zip(names, present) if not there)
        warnings.warn(f"class weights {kind!r}: no pixel of {absent} in the training set, weight 0", stacklevel=2)
    weights = np.zeros(pixels.shape)
    if kind == "enet_log":
        weights[present] = 1.0 / np.log(1.02 + pixels[present] / pixels.sum())
        return weights.astype(np.float32)
    if (images[present] <= 0).any():
        culprit = names[int(np.flatnonzero(present & (images <= 0))[0])]
        raise DataError(f"class weights {kind!r}: {culprit} has pixels but is in no image: image_counts is wrong")
    frequency = pixels[present] / images[present]
    weights[present] = np.median(frequency) / frequency
    return weights.astype(np.float32)
