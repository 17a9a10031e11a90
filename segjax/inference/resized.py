"""Images of different sizes in one batch, each resized by its own size: what a network is shown, and its scores back.

`segjax.ops.resize` resizes a whole array; here the padding beyond an image's true size takes no part. The weights are
made on the device from the sizes, so that one program serves all images of a padded size.

Shape legend: B batch, H height, W width, C channels.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.schema import Resize

Size = tuple[int, int]


def resized_side(length: int, resize: Resize, axis: int) -> int:
    """How many pixels a side of `length` pixels has after `resize`; `axis` 0 is the height."""
    if resize.size is not None:
        return resize.size[axis]
    return max(1, math.floor(length * resize.factor))


def resized_sizes(sizes: jax.Array, size: Size, resize: Resize) -> jax.Array:
    """int32 [B, 2]: each image's (height, width) after `resize`.

    Args:
      sizes: int [B, 2], before.
      size: (height, width) of the padded batch, which no image exceeds.
    """
    sides = []
    for axis, longest in enumerate(size):
        table = np.array([resized_side(n, resize, axis) for n in range(longest + 1)], np.int32)
        sides.append(jnp.asarray(table)[sizes[:, axis]])
    return jnp.stack(sides, axis=1)


def resize_each(
    images: jax.Array,
    before: jax.Array,
    after: jax.Array,
    size: Size,
    *,
    method: str = "bilinear",
    align_corners: bool = False,
    antialias: bool = False,
) -> jax.Array:
    """[B, H, W, C] -> [B, *size, C]: image b, the first before[b] rows and columns, onto the first after[b].

    What is written beyond after[b] continues the border and means nothing. The methods are those of
    `segjax.ops.resize.resize` with a size.

    Args:
      images: float32.
      before, after: int [B, 2], (height, width).
      size: static (height, width) of the result.
    """
    options = {"method": method, "align_corners": align_corners, "antialias": antialias}
    rows = _weights(before[:, 0], after[:, 0], images.shape[1], size[0], **options)
    columns = _weights(before[:, 1], after[:, 1], images.shape[2], size[1], **options)
    exact = jax.lax.Precision.HIGHEST  # a reduced product would round every pixel
    images = jnp.einsum("boi,biwc->bowc", rows, images, precision=exact)
    return jnp.einsum("boi,bhic->bhoc", columns, images, precision=exact)


def _weights(
    before: jax.Array,
    after: jax.Array,
    length: int,
    result: int,
    *,
    method: str,
    align_corners: bool,
    antialias: bool,
) -> jax.Array:
    """float32 [B, result, length]: the weight of each source pixel in each output pixel along one axis.

    Positions are fractions of whole numbers, whose whole part and rest are taken in int32: float32 would be off by up
    to 1e-3 pixels at the far end of a large image. Sides up to 32,000 pixels fit.
    """
    before, after = (jnp.maximum(n.astype(jnp.int32), 1)[:, None] for n in (before, after))
    index = jnp.arange(result, dtype=jnp.int32)
    pixel = jnp.arange(length, dtype=jnp.int32)
    if method == "nearest":
        source = jnp.minimum(index * before // after, before - 1)
        return (pixel == source[..., None]).astype(jnp.float32)
    if antialias:
        return _footprints(before, after, index, pixel, method)
    if align_corners:
        above, below = index * (before - 1), jnp.maximum(after - 1, 1)
    else:
        above, below = (2 * index + 1) * before - after, 2 * after
    low = above // below
    share = (above - low * below).astype(jnp.float32) / below.astype(jnp.float32)
    taps = ((0, 1 - share), (1, share)) if method == "bilinear" else _cubic_taps(share)
    weights = jnp.zeros((*low.shape, length), jnp.float32)
    for tap, weight in taps:
        # A tap beyond the border reads the border's pixel.
        column = jnp.clip(low + tap, 0, before - 1)
        weights += jnp.where(pixel == column[..., None], weight[..., None], 0.0)
    return weights


def _cubic_taps(share: jax.Array) -> list[tuple[int, jax.Array]]:
    return [(tap, _keys(jnp.abs(tap - share), -0.75)) for tap in (-1, 0, 1, 2)]


def _footprints(before: jax.Array, after: jax.Array, index: jax.Array, pixel: jax.Array, method: str) -> jax.Array:
    """Antialiased: the kernel stretched over the output pixel's footprint, cut at the border and normalised."""
    above, below = (2 * index + 1) * before, 2 * after
    low = above // below  # of the centre
    share = (above - low * below).astype(jnp.float32) / below.astype(jnp.float32)
    stretch = jnp.maximum(before.astype(jnp.float32) / after.astype(jnp.float32), 1.0)
    distance = jnp.abs((pixel - low[..., None]).astype(jnp.float32) + (0.5 - share)[..., None]) / stretch[..., None]
    weights = jnp.maximum(1.0 - distance, 0.0) if method == "bilinear" else _keys(distance, -0.5)
    weights = jnp.where(pixel < before[..., None], weights, 0.0)
    total = weights.sum(-1, keepdims=True)
    return weights / jnp.where(total == 0, 1.0, total)  # rows beyond the result meet no pixel


def _keys(distance: jax.Array, a: float) -> jax.Array:
    """Keys' cubic convolution kernel (IEEE TASSP 1981, equation 4) at distances >= 0."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return jnp.where(distance <= 1, near, jnp.where(distance < 2, far, 0.0))
