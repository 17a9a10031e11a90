"""What one pass over a split learns of it: class pixels, sizes, pixel statistics."""

from __future__ import annotations

import dataclasses

import numpy as np

from segjax.core.schema import IGNORE
from segjax.data.decode import Picture


@dataclasses.dataclass
class SplitCounts:
    """Sums over a split.

    Attributes:
      pixels: int64 [K], pixels of each class.
      images_with: int64 [K], images in which the class occurs.
      area_with: int64 [K], pixels of those images.
      total, squares: float64 [C], sums of the measured pixel values and of their squares.
      measured: int64 [C], how many they are.
      images: number of images whose pixels are in the sums.
      labels: number of labels.
      void: pixels that are void.
      missing: image pixels that are no measurement, in any channel.
      nodata: label pixels that their files declare to be no measurement.
      largest: greatest (height, width), each over all labels, or images without one.
    """

    pixels: np.ndarray
    images_with: np.ndarray
    area_with: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    measured: np.ndarray
    images: int = 0
    labels: int = 0
    void: int = 0
    missing: int = 0
    nodata: int = 0
    largest: tuple[int, int] = (0, 0)

    @classmethod
    def zeros(cls, num_classes: int, channels: int) -> SplitCounts:
        classes = [np.zeros(num_classes, np.int64) for _ in range(3)]
        return cls(*classes, np.zeros(channels), np.zeros(channels), np.zeros(channels, np.int64))

    def add_label(self, label: np.ndarray) -> None:
        """Adds class ids [H, W]."""
        counts = np.bincount(label.ravel(), minlength=IGNORE + 1)
        classes = counts[: len(self.pixels)]
        self.pixels += classes
        self.images_with += classes > 0
        self.area_with += label.size * (classes > 0)
        self.void += int(counts[IGNORE])
        self.labels += 1
        self.add_size(label.shape)

    def add_size(self, size: tuple[int, int]) -> None:
        """Adds a height and width."""
        self.largest = (max(self.largest[0], size[0]), max(self.largest[1], size[1]))

    def add_image(self, picture: Picture) -> None:
        """Adds the pixels of an image, but for those that are no measurement."""
        self.images += 1
        missing = picture.missing
        if missing is not None:
            self.missing += int(missing.any(-1).sum())
        for channel in range(picture.pixels.shape[-1]):
            values = picture.pixels[..., channel]
            if missing is not None:
                values = values[~missing[..., channel]]
            values = values.astype(np.float64)
            self.measured[channel] += values.size
            self.total[channel] += values.sum()
            self.squares[channel] += np.square(values, out=values).sum()

    def mean(self) -> np.ndarray:
        """float64 [C], in units of the stored pixels."""
        return self.total / np.maximum(1, self.measured)

    def std(self) -> np.ndarray:
        """float64 [C], at least 1e-6, so that it can be divided by."""
        return np.sqrt(np.maximum(self.squares / np.maximum(1, self.measured) - np.square(self.mean()), 1e-12))
