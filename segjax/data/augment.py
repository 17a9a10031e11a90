"""Augmentation on the device, under jit: zoom, flip, colour, normalisation of a whole batch.

The host hands over windows of raw pixels; image and label are resampled through the same coordinates, so they cannot
come apart. Shapes: B batch, h x w window, H x W crop, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from segjax.core.config import Augment
from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE, IMAGE, LABEL, VALID, DatasetInfo

Batch = Mapping[str, jax.Array]

EXTENT = ("height", "width")
"""Batch keys, int32 [B]: how much of a window is image; below and right of it is padding. Absent = all of it."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_MAXIMUM = {"uint8": 255.0, "uint16": 65535.0}


def window_size(
    crop_size: tuple[int, int], scale: tuple[float, float], largest: tuple[int, int] | None = None
) -> tuple[int, int]:
    """(height, width) of the window that the host cuts, so that every zoom of `scale` finds its view inside.

    The smallest zoom sees crop / scale[0] pixels. A window never exceeds the `largest` image: what lies beyond an
    image is void, and is not worth sending.
    """
    window = [math.ceil(side / min(1.0, scale[0])) for side in crop_size]
    if largest is not None:
        window = [min(side, limit) for side, limit in zip(window, largest)]
    return window[0], window[1]


def normalize(image: jax.Array, mean: Sequence[float], std: Sequence[float], order: str = "rgb") -> jax.Array:
    """float32 [..., C]: (image - mean) / std, channel by channel; an RGB image turned to `order`, that of mean and
    std and of the result, first."""
    image = image[..., ::-1] if order == "bgr" else image
    mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
    return (image.astype(jnp.float32) - mean) / std


def make_train_transform(
    augment: Augment, info: DatasetInfo, crop_size: tuple[int, int]
) -> Callable[[jax.Array, Batch], dict[str, jax.Array]]:
    """The jit-able `transform(key, batch) -> batch` of training.

    In: image [B, h, w, C] raw, label int [B, h, w], valid bool [B], and optionally `height`, `width` int32 [B].
    Out: image float32 [B, H, W, C] normalised, label [B, H, W] of the same integer type (IGNORE outside the image,
    where the image is the mean, that is 0), valid. The result depends on the key and the batch only.

    Raises:
      ConfigError: for saturation or hue where images do not have three channels.
    """
    for name in ("saturation", "hue"):
        if getattr(augment, name) and info.channels != 3:
            raise ConfigError(f"config.augment.{name}: the images have {info.channels} channels, not 3; set it to 0.")

    def transform(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        zoom_key, mirror_key, colour_key = jax.random.split(key, 3)
        image, label = batch[IMAGE], batch[LABEL]
        mirror = jax.random.bernoulli(mirror_key, 0.5, image.shape[:1]) if augment.flip else None
        if augment.scale != (1.0, 1.0) or image.shape[1:3] != tuple(crop_size):
            image, label, inside = _zoom(zoom_key, image, label, batch, augment.scale, crop_size, mirror)
        else:
            inside = _inside(batch, image.shape)
            if mirror is not None:
                image, label, inside = (_mirror(array, mirror) for array in (image, label, inside))
        image = image.astype(jnp.float32)
        image = _jitter_colour(colour_key, image, inside, augment, _MAXIMUM.get(info.image_dtype))
        image = jnp.where(inside[..., None], normalize(image, info.mean, info.std, info.channel_order), 0.0)
        label = jnp.where(inside, label, jnp.asarray(IGNORE, label.dtype))
        return {IMAGE: image, LABEL: label, VALID: batch[VALID]}

    return transform


def _inside(batch: Batch, shape: tuple[int, ...]) -> jax.Array:
    """bool [B, h, w]: which pixels of the window are image."""
    height, width = _extent(batch, shape)
    rows = jnp.arange(shape[1]) < height[:, None]
    columns = jnp.arange(shape[2]) < width[:, None]
    return rows[:, :, None] & columns[:, None, :]


def _extent(batch: Batch, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    return tuple(batch.get(name, jnp.full(shape[:1], side, jnp.int32)) for name, side in zip(EXTENT, shape[1:3]))


def _zoom(
    key: jax.Array,
    image: jax.Array,
    label: jax.Array,
    batch: Batch,
    scale: tuple[float, float],
    crop_size: tuple[int, int],
    mirror: jax.Array | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A random view of each window at a random scale: image bilinear, label nearest, and where the view is image.

    Views that `mirror` [B] marks read their columns backwards, which costs nothing.
    """
    count = image.shape[0]
    keys = jax.random.split(key, 3)
    logs = jax.random.uniform(keys[0], (count,), minval=math.log(scale[0]), maxval=math.log(scale[1]))
    factor = jnp.exp(logs) if scale[0] != scale[1] else jnp.full((count,), scale[0])
    height, width = _extent(batch, image.shape)
    rows = _view(keys[1], factor, height, crop_size[0])
    columns = _view(keys[2], factor, width, crop_size[1])
    if mirror is not None:
        columns = jnp.where(mirror[:, None], columns[:, ::-1], columns)
    inside_rows = (rows >= 0) & (rows < height[:, None])
    inside_columns = (columns >= 0) & (columns < width[:, None])
    image = _interpolate(image, rows, height, axis=1)
    image = _interpolate(image, columns, width, axis=2)
    label = _take(label, _nearest(rows, height), axis=1)
    label = _take(label, _nearest(columns, width), axis=2)
    return image, label, inside_rows[:, :, None] & inside_columns[:, None, :]


def _view(key: jax.Array, factor: jax.Array, extent: jax.Array, size: int) -> jax.Array:
    """float32 [B, size]: where each output pixel's centre lies on the window, measured from its edge.

    The view, size / factor long, is placed uniformly: inside the image when it fits, around it when it does not.
    """
    slack = extent - size / factor
    start = jax.random.uniform(key, factor.shape) * jnp.abs(slack) + jnp.minimum(slack, 0.0)
    # A view at scale 1 starts on a whole pixel, so that it copies pixels instead of blurring them.
    start = jnp.where(factor == 1.0, jnp.round(start), start)
    return start[:, None] + (jnp.arange(size) + 0.5) / factor[:, None]


def _nearest(position: jax.Array, extent: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(position).astype(jnp.int32), 0, extent[:, None] - 1)


def _interpolate(image: jax.Array, position: jax.Array, extent: jax.Array, axis: int) -> jax.Array:
    """Linear interpolation along one axis, in float32; pixels beyond the image repeat its border."""
    lower = jnp.floor(position - 0.5)
    shape = (-1, *(position.shape[1] if n == axis else 1 for n in range(1, image.ndim)))
    weight = (position - 0.5 - lower).reshape(shape)
    first = jnp.clip(lower.astype(jnp.int32), 0, extent[:, None] - 1)
    second = jnp.clip(lower.astype(jnp.int32) + 1, 0, extent[:, None] - 1)
    low, high = (_take(image, index, axis).astype(jnp.float32) for index in (first, second))
    return low + weight * (high - low)


def _take(array: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """array[b] at index[b] along `axis`, for each b."""
    return jax.vmap(lambda one, where: jnp.take(one, where, axis=axis - 1, mode="clip"))(array, index)


def _mirror(array: jax.Array, mirror: jax.Array) -> jax.Array:
    return jnp.where(mirror.reshape(-1, *(1,) * (array.ndim - 1)), array[:, :, ::-1], array)


def _jitter_colour(
    key: jax.Array, image: jax.Array, inside: jax.Array, augment: Augment, maximum: float | None
) -> jax.Array:
    """Brightness, contrast, saturation, hue, in this order, each by a random amount per image."""
    keys = jax.random.split(key, 4)

    def amount(index: int, limit: float) -> jax.Array:
        drawn = jax.random.uniform(keys[index], image.shape[:1], minval=-limit, maxval=limit)
        return drawn.reshape(-1, 1, 1, 1)

    changed = image
    if augment.brightness:
        changed = changed * jnp.maximum(0.0, 1.0 + amount(0, augment.brightness))
    if augment.contrast:
        weight = inside[..., None].astype(jnp.float32)
        grey = (changed * weight).mean((1, 2), keepdims=True) / jnp.maximum(weight.mean((1, 2), keepdims=True), 1e-6)
        grey = grey.mean(-1, keepdims=True)
        changed = grey + (changed - grey) * jnp.maximum(0.0, 1.0 + amount(1, augment.contrast))
    if augment.saturation:
        luma = sum(weight * changed[..., k : k + 1] for k, weight in enumerate(_LUMA))
        changed = luma + (changed - luma) * jnp.maximum(0.0, 1.0 + amount(2, augment.saturation))
    if augment.hue:
        changed = _rotate_hue(changed, 2 * math.pi * amount(3, augment.hue))
    if changed is image or maximum is None:
        return changed
    return jnp.clip(changed, 0.0, maximum)


def _rotate_hue(image: jax.Array, angle: jax.Array) -> jax.Array:
    """Turns colours about the grey axis by `angle` [B, 1, 1, 1] radians (Rodrigues' formula); greys stay."""
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    cross = jnp.stack([blue - green, red - blue, green - red], axis=-1) / math.sqrt(3.0)
    mean = image.mean(-1, keepdims=True)
    return mean + (image - mean) * jnp.cos(angle) + cross * jnp.sin(angle)
