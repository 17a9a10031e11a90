"""The keys and records that every part of segjax agrees on.

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# Batch, as the host pipeline hands it over (numpy, then a global jax.Array):
IMAGE = "image"  # uint8, uint16 or float32 [B, H, W, C], raw pixel values
LABEL = "label"  # uint8 or int32 [B, H, W], class ids, IGNORE where void
VALID = "valid"  # bool [B], false for the padding of the last evaluation batch
SAMPLE = "sample"  # int32 [B], place in the training split; only where `config.train.cache_features` asks for it

# What a network returns:
LOGITS = "logits"  # float32 [B, H, W, K] at the input's resolution
AUX_LOGITS = "aux_logits"  # tuple of the same (train only)
BORDER_LOGITS = "border_logits"  # float32 [B, H, W, N], N logits of "classes meet here" (train only)
FEATURES = "features"  # {stride: [B, H/stride, W/stride, channels]}

IGNORE = 255
"""The label of pixels that count neither in a loss nor, by default, in a metric."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a network and its predictions need to know of a data set; stored in every checkpoint.

    Attributes:
      name: the builder's name.
      classes: K class names, in label order.
      palette: K (red, green, blue) colours, 0..255.
      channels: C.
      image_dtype: `uint8`, `uint16` or `float32`, how pixel values are stored.
      mean: C values in units of the stored pixels, subtracted before the network.
      std: C values in the same units, divided by.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    channels: int = 3
    image_dtype: str = "uint8"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DatasetInfo:
        return cls(
            name=record["name"],
            classes=tuple(record["classes"]),
            palette=tuple(tuple(colour) for colour in record["palette"]),
            channels=record["channels"],
            image_dtype=record["image_dtype"],
            mean=tuple(record["mean"]),
            std=tuple(record["std"]),
        )
