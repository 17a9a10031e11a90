"""The keys and records that every part of segjax agrees on.

Shape legend: B batch, H height, W width, C image channels, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from segjax.core.errors import ConfigError

# Batch, as the host pipeline hands it over (numpy, then a global jax.Array):
IMAGE = "image"  # uint8, uint16 or float32 [B, H, W, C], raw pixel values
LABEL = "label"  # uint8 or int32 [B, H, W], class ids, IGNORE where void
VALID = "valid"  # bool [B], false for the padding of the last evaluation batch
INSTANCE = "instance"  # uint8, uint16 beyond 255 slots [B, H, W, L], id layers: slot + 1 of what covers the pixel, or 0
INSTANCE_CLASS = "instance_class"  # int32 [B, N], class of each slot
INSTANCE_VALID = "instance_valid"  # bool [B, N], whether the slot holds an instance
INSTANCE_CROWD = "instance_crowd"  # bool [B, N], many objects as one: in no loss; in metrics as COCO has it
INSTANCE_AREA = "instance_area"  # float32 [B, N], the annotation's, pixels of the original image; in evaluation
INSTANCE_BOX = "instance_box"  # float32 [B, N, 4], x0, y0, x1, y1; pixel j spans j to j + 1
POINTS = "points"  # float32 [B, P, C], coordinates first
POINT_VALID = "point_valid"  # bool [B, P]
PART = "part"  # int32 [B, P], part of each point
CATEGORY = "category"  # int32 [B], of each shape
SIZE = "size"  # int32 [B, 2], height and width of the image itself; below and right of it is padding
SAMPLE = "sample"  # int32 [B], place in the split: in evaluation, and where `config.train.cache_features` asks for it
NAME = "name"  # list of B str, in evaluation; stays on the host

# What a network returns:
LOGITS = "logits"  # `segjax.ops.logits.Logits`, [B, H, W, K] once upsampled
AUX_LOGITS = "aux_logits"  # tuple of the same (train only)
BORDER_LOGITS = "border_logits"  # the same, [B, H, W, N]: N logits of "classes meet here" (train only)
# Two-stage detectors; A anchors, S sampled regions, F of them for masks, K classes:
RPN_LOGITS = "rpn_logits"  # float32 [B, A]
RPN_DELTAS = "rpn_deltas"  # float32 [B, A, 4]
ANCHORS = "anchors"  # float32 [A, 4]
ROI_BOX = "roi_box"  # float32 [B, S, 4]; in evaluation all proposals
ROI_ROLE = "roi_role"  # int8 [B, S], 1 foreground (train only), 0 background, -1 no region
ROI_MATCH = "roi_match"  # int32 [B, S], slot of the instance (train only)
BOX_LOGITS = "box_logits"  # float32 [B, S, K + 1], background last
BOX_DELTAS = "box_deltas"  # float32 [B, S, K, 4]
MASK_LOGITS = "mask_logits"  # float32 [B, F, 28, 28, K]; in evaluation of the D boxes detected
DETECTED = "detected"  # box float32 [B, D, 4], class int32 [B, D], score float32 [B, D], valid bool [B, D]
# Centres and offsets, `Logits` as the logits are; once upsampled:
CENTER = "center"  # float32 [B, H, W, 1], 1 at the centre of an instance
OFFSET = "offset"  # float32 [B, H, W, 2], (rows, columns) in pixels of the image, to the centre of the pixel's instance
TRANSFORM = "transform"  # float32 [B, D, D], what a network of points multiplies its features by
FEATURES = "features"  # {stride: [B, H/stride, W/stride, channels]}

IGNORE = 255
"""The label of pixels that count neither in a loss nor, by default, in a metric."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


CHANNEL_ORDERS = ("rgb", "bgr")
RESIZE_METHODS = ("bilinear", "bicubic", "nearest")


@dataclasses.dataclass(frozen=True)
class Resize:
    """The size at which a network is shown an image; its scores are brought back to the image's own size.

    Attributes:
      size: (height, width) that every image is brought to, whatever its shape; or None, and
      factor: each side n becomes floor(n * factor), at least 1.
      method: `bilinear`, `bicubic` (Keys' kernel) or `nearest` (of the image; scores come back bilinear then).
      align_corners: corner pixels coincide, rather than the images' edges.
      antialias: shrinking widens the filter to the output pixel's footprint, as Pillow does and OpenCV does not.

    Raises:
      ConfigError: neither or both of size and factor, a value that is not positive, an unknown method, alignment or
        antialiasing that the method has not.
    """

    size: tuple[int, int] | None = None
    factor: float | None = None
    method: str = "bilinear"
    align_corners: bool = False
    antialias: bool = False

    def __post_init__(self):
        if (self.size is None) == (self.factor is None):
            raise ConfigError(f"resize: give a size or a factor, not {'both' if self.size else 'neither'}.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ConfigError(f"resize: size {self.size} is not (height, width), both at least 1.")
        if self.factor is not None and not 0 < self.factor < float("inf"):
            raise ConfigError(f"resize: factor {self.factor} is not above 0.")
        if self.method not in RESIZE_METHODS:
            raise ConfigError(f"resize: method {self.method!r} is none of {', '.join(RESIZE_METHODS)}.")
        if self.antialias and (self.align_corners or self.method == "nearest"):
            raise ConfigError("resize: antialias goes neither with align_corners nor with nearest.")
        if self.align_corners and self.method == "nearest":
            raise ConfigError("resize: nearest has no align_corners.")


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a network and its predictions need to know of a data set; stored in every checkpoint.

    Attributes:
      name: the builder's name.
      classes: K class names, in label order; the network's outputs.
      palette: K (red, green, blue) colours, 0..255.
      channels: C.
      image_dtype: `uint8`, `uint16` or `float32`, how pixel values are stored.
      mean: C values in units of the stored pixels, subtracted before the network; in `channel_order`.
      std: C values in the same units, divided by; in `channel_order`.
      channel_order: `rgb`, or `bgr` where the network's first kernel expects blue first. Images are RGB everywhere
        outside `segjax.data.augment.normalize`, which turns them round.
      void_class: the class that means "none of the others", where the network has an output for it: such pixels are
        written, and scored, as IGNORE. None where it has not.
      resize: the size the network is shown images at; None: their own.
      things: the classes that have instances, in order; empty where none has.
      layers: L of the id layers; 0 where there are no instances.
      max_instances: the most instances of an image.
      max_points: the most points of a cloud; 0 where there are none.
      categories: of shapes, (name, its parts' classes), for parts of point clouds.

    Raises:
      ConfigError: an unknown channel order, or `bgr` of images without three channels; a void class that is no class.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    channels: int = 3
    image_dtype: str = "uint8"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = "rgb"
    void_class: int | None = None
    resize: Resize | None = None
    things: tuple[int, ...] = ()
    layers: int = 0
    max_instances: int = 0
    max_points: int = 0
    categories: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self):
        if self.channel_order not in CHANNEL_ORDERS:
            raise ConfigError(f"channel_order: {self.channel_order!r} is neither rgb nor bgr.")
        if self.channel_order == "bgr" and self.channels != 3:
            raise ConfigError(f"channel_order: bgr is an order of 3 channels, the images have {self.channels}.")
        if self.void_class is not None and not 0 <= self.void_class < len(self.classes):
            raise ConfigError(f"void_class: {self.void_class} is none of the classes 0..{len(self.classes) - 1}.")
        for thing in self.things:
            if not 0 <= thing < len(self.classes):
                raise ConfigError(f"things: {thing} is none of the classes 0..{len(self.classes) - 1}.")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DatasetInfo:
        """The inverse of `to_json`; what a record of an older version lacks has its default."""
        resize = record.get("resize")
        if resize is not None:
            resize = Resize(**{**resize, "size": None if resize["size"] is None else tuple(resize["size"])})
        return cls(
            name=record["name"],
            classes=tuple(record["classes"]),
            palette=tuple(tuple(colour) for colour in record["palette"]),
            channels=record["channels"],
            image_dtype=record["image_dtype"],
            mean=tuple(record["mean"]),
            std=tuple(record["std"]),
            channel_order=record.get("channel_order", "rgb"),
            void_class=record.get("void_class"),
            resize=resize,
            things=tuple(record.get("things", ())),
            layers=record.get("layers", 0),
            max_instances=record.get("max_instances", 0),
            max_points=record.get("max_points", 0),
            categories=tuple((name, tuple(parts)) for name, parts in record.get("categories", ())),
        )
