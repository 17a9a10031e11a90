"""What one pass over a split learns of its instances."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from segjax.data.instances.objects import Instances

SIZES = ("small", "medium", "large")
_BOUNDS = (32**2, 96**2)  # pixels; COCO's


@dataclasses.dataclass
class InstanceCounts:
    """Sums over a split.

    Attributes:
      by_class: int64 [K], instances of each class, crowds left out.
      images_with: int64 [K], images in which the class has one, or a crowd.
      crowds: int64 [K].
      sizes: int64 [3], instances of an area below 32^2, up to 96^2, and above; crowds left out.
      images: number of images.
      without: images that have neither an instance nor a crowd.
      layers: the most layers that an image needs.
      most: the most instances and crowds of an image.
      over: images that have more than there is room for.
      left_out: instances that had no room.
    """

    by_class: np.ndarray
    images_with: np.ndarray
    crowds: np.ndarray
    sizes: np.ndarray
    images: int = 0
    without: int = 0
    layers: int = 1
    most: int = 0
    over: int = 0
    left_out: int = 0

    @classmethod
    def zeros(cls, num_classes: int) -> InstanceCounts:
        return cls(*(np.zeros(n, np.int64) for n in (num_classes, num_classes, num_classes, len(SIZES))))

    def add(self, instances: Instances, room: int) -> None:
        """Adds what an image has; `room` is how many of them are kept."""
        classes, crowd, number = instances.classes, instances.crowd, len(instances.classes)
        known = len(self.by_class)
        self.by_class += np.bincount(classes[~crowd], minlength=known)
        self.crowds += np.bincount(classes[crowd], minlength=known)
        self.images_with += np.bincount(classes, minlength=known) > 0
        self.sizes += np.bincount(np.digitize(instances.area[~crowd], _BOUNDS), minlength=len(SIZES))
        self.images += 1
        self.without += not number
        self.layers = max(self.layers, instances.layers.shape[-1])
        self.most = max(self.most, number)
        self.over += number > room
        self.left_out += max(0, number - room)

    def lines(self, classes: Sequence[str], things: Sequence[int]) -> Iterator[str]:
        """The counts as text."""
        total, crowds = int(self.by_class.sum()), int(self.crowds.sum())
        sizes = ", ".join(f"{count:,} {name}" for count, name in zip(self.sizes.tolist(), SIZES))
        yield (
            f"  {total:,} instances ({sizes}; limits 32^2 and 96^2 pixels), {crowds:,} crowds, up to {self.most} an"
            f" image, {self.layers} id layer{'s' * (self.layers > 1)}; {self.without} images have none"
        )
        width = max(len(classes[k]) for k in things)
        yield f"  {'thing':<{width}}  {'instances':>10}  {'share':>8}  {'crowds':>7}  {'images':>7}"
        for k in things:
            share = self.by_class[k] / max(1, total)
            yield (
                f"  {classes[k]:<{width}}  {self.by_class[k]:>10,}  {share:>8.3%}  {self.crowds[k]:>7,}"
                f"  {self.images_with[k]:>7,}"
            )

    def over_limit(self, room: int) -> str | None:
        """A line about the images that have more instances than there is room for; None without any."""
        if not self.over:
            return None
        return (
            f"{self.over} images have more than data.options.max_instances={room} instances (up to {self.most}); the"
            f" largest stay, {self.left_out} are left out"
        )
