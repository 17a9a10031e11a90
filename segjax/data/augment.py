"""Augmentation on the device, under jit: zoom, flip, colour, normalisation of a whole batch.

The host hands over windows of raw pixels; image, labels and id layers are resampled through the same view, so they
cannot come apart. Shapes: B batch, h x w window, H x W crop, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from segjax.core.errors import ConfigError
from segjax.core.fields import KINDS, moves_as_label
from segjax.core.schema import IMAGE, INSTANCE, SIZE, DatasetInfo
from segjax.data.copy_paste import copy_paste
from segjax.data.geometry import View, random_view
from segjax.data.options import Augment, InstanceAugment

Batch = Mapping[str, jax.Array]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_COPY_PASTE = 3  # number of its stream of random numbers, beside those of view, mirror and colour
_MAXIMUM = {"uint8": 255.0, "uint16": 65535.0}


def window_size(
    crop_size: tuple[int, int], scale: tuple[float, float], largest: tuple[int, int] | None = None, fit: bool = False
) -> tuple[int, int]:
    """(height, width) of the window that the host cuts, so that every zoom of `scale` finds its view inside.

    The smallest zoom sees crop / scale[0] pixels. A window never exceeds the `largest` image: what lies beyond an
    image is void, and is not worth sending. With `fit` (`Augment.fit`) windows are whole images.

    Raises:
      ConfigError: `fit`, and nothing is known of the images.
    """
    if fit and largest is None:
        raise ConfigError("config.augment.fit: it shows whole images, whose size is not known here; set it to False.")
    if fit:
        return largest
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

    In: `image` [B, h, w, C] raw; optionally `size` int32 [B, 2], how much of each window is image, default all of it;
    labels and id layers [B, h, w, ...]; anything else.
    Out: image float32 [B, H, W, C] normalised, the mean, that is 0, outside the image; labels and id layers [B, H, W,
    ...] of the same integer types, their `fill` outside the image; all else but `size` as it came. With
    `augment.copy_paste` objects are pasted from image to image, and slots change (`data.copy_paste`). The result
    depends on the key and the batch only.

    Raises:
      ConfigError: for saturation or hue where images do not have three channels, a share above 1.
    """
    pasted = augment.copy_paste if isinstance(augment, InstanceAugment) else 0.0
    if pasted > 1:
        raise ConfigError(f"config.augment.copy_paste: {pasted} is a share of images, from 0 to 1.")
    for name in ("saturation", "hue"):
        if getattr(augment, name) and info.channels != 3:
            raise ConfigError(f"config.augment.{name}: the images have {info.channels} channels, not 3; set it to 0.")

    def transform(key: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        view_key, mirror_key, colour_key = jax.random.split(key, 3)
        count, *window = batch[IMAGE].shape[:3]
        sizes = batch.get(SIZE, jnp.full((count, 2), jnp.asarray(window, jnp.int32)))
        mirror = jax.random.bernoulli(mirror_key, 0.5, (count,)) if augment.flip else None
        if augment.fit or augment.scale != (1.0, 1.0) or tuple(window) != tuple(crop_size):
            view = random_view(view_key, sizes, crop_size, augment.scale, mirror, augment.fit)
        else:
            view = View(None, None, mirror, sizes)
        inside = view.inside(tuple(window))
        image = view.image(batch[IMAGE]).astype(jnp.float32)
        image = _jitter_colour(colour_key, image, inside, augment, _MAXIMUM.get(info.image_dtype))
        image = jnp.where(inside[..., None], normalize(image, info.mean, info.std, info.channel_order), 0.0)
        moved = {name: value for name, value in batch.items() if name != SIZE}
        for name, value in moved.items():
            if moves_as_label(name):
                value = view.label(value)
                kept = inside.reshape(*inside.shape, *(1,) * (value.ndim - 3))
                moved[name] = jnp.where(kept, value, jnp.asarray(KINDS[name].fill, value.dtype))
        moved[IMAGE] = image
        if pasted and INSTANCE in moved:
            moved = copy_paste(jax.random.fold_in(key, _COPY_PASTE), moved, pasted)
        return moved

    return transform


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
