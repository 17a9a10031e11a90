"""Views of images: which pixels of a window an augmented image shows, and how each kind of array is moved by that.

Shapes: B batch, h x w window, H x W view, C channels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segjax.ops.geometry import inside


class View(NamedTuple):
    """Where each pixel of a view lies on its window, rows and columns apart.

    Attributes:
      rows: float32 [B, H], positions measured from the window's edge, or None: as they are.
      columns: float32 [B, W], or None. Mirrored views have them in descending order.
      mirror: bool [B]: views without rows and columns that are to be mirrored; None: none.
      sizes: int32 [B, 2], height and width of what is image in the window.
      smooth: whether shrinking averages over all that a pixel covers; else it interpolates between two pixels.
    """

    rows: jax.Array | None
    columns: jax.Array | None
    mirror: jax.Array | None
    sizes: jax.Array
    smooth: bool = False

    def inside(self, window: tuple[int, int]) -> jax.Array:
        """bool [B, H, W]: where the view shows the image; `window` is (h, w)."""
        if self.rows is None:
            return _mirrored(inside(self.sizes, *window), self.mirror)
        height, width = self.sizes[:, :1], self.sizes[:, 1:]
        rows = (self.rows >= 0) & (self.rows < height)
        columns = (self.columns >= 0) & (self.columns < width)
        return rows[:, :, None] & columns[:, None, :]

    def image(self, array: jax.Array) -> jax.Array:
        """[B, h, w, C] -> [B, H, W, C], interpolated linearly, in float32 where that computes anything."""
        if self.rows is None:
            return _mirrored(array, self.mirror)
        resample = _average if self.smooth else _interpolate
        array = resample(array, self.rows, self.sizes[:, :1], axis=1)
        return resample(array, self.columns, self.sizes[:, 1:], axis=2)

    def label(self, array: jax.Array) -> jax.Array:
        """[B, h, w, ...] -> [B, H, W, ...], each pixel's nearest."""
        if self.rows is None:
            return _mirrored(array, self.mirror)
        array = _take(array, _nearest(self.rows, self.sizes[:, :1]), axis=1)
        return _take(array, _nearest(self.columns, self.sizes[:, 1:]), axis=2)


def random_view(
    key: jax.Array,
    sizes: jax.Array,
    crop_size: tuple[int, int],
    scale: tuple[float, float],
    mirror: jax.Array | None,
    fit: bool = False,
) -> View:
    """A view of each window, H x W = `crop_size`, at a random scale (log-uniform) and place.

    Views that `mirror` [B] marks read their columns backwards, which costs nothing. With `fit` a scale of 1 is that at
    which the image just fits into the view, and shrinking is smooth: large-scale jitter, Ghiasi et al., CVPR 2021,
    section 4 (scales 0.1 to 2).
    """
    count = sizes.shape[0]
    keys = jax.random.split(key, 3)
    logs = jax.random.uniform(keys[0], (count,), minval=math.log(scale[0]), maxval=math.log(scale[1]))
    factor = jnp.exp(logs) if scale[0] != scale[1] else jnp.full((count,), scale[0])
    if fit:
        factor *= (jnp.array(crop_size) / jnp.maximum(sizes, 1)).min(axis=1)
    rows = _positions(keys[1], factor, sizes[:, 0], crop_size[0])
    columns = _positions(keys[2], factor, sizes[:, 1], crop_size[1])
    if mirror is not None:
        columns = jnp.where(mirror[:, None], columns[:, ::-1], columns)
    return View(rows, columns, None, sizes, smooth=fit)


def _positions(key: jax.Array, factor: jax.Array, extent: jax.Array, size: int) -> jax.Array:
    """float32 [B, size]: where each pixel's centre lies on the window, measured from its edge.

    The view, size / factor long, is placed uniformly: inside the image when it fits, around it when it does not.
    """
    slack = extent - size / factor
    start = jax.random.uniform(key, factor.shape) * jnp.abs(slack) + jnp.minimum(slack, 0.0)
    # A view at scale 1 starts on a whole pixel, so that it copies pixels instead of blurring them.
    start = jnp.where(factor == 1.0, jnp.round(start), start)
    return start[:, None] + (jnp.arange(size) + 0.5) / factor[:, None]


def _nearest(position: jax.Array, extent: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(position).astype(jnp.int32), 0, extent - 1)


def _interpolate(image: jax.Array, position: jax.Array, extent: jax.Array, axis: int) -> jax.Array:
    """Linear interpolation along one axis, in float32; pixels beyond the image repeat its border."""
    lower = jnp.floor(position - 0.5)
    shape = (-1, *(position.shape[1] if n == axis else 1 for n in range(1, image.ndim)))
    weight = (position - 0.5 - lower).reshape(shape)
    first = jnp.clip(lower.astype(jnp.int32), 0, extent - 1)
    second = jnp.clip(lower.astype(jnp.int32) + 1, 0, extent - 1)
    low, high = (_take(image, index, axis).astype(jnp.float32) for index in (first, second))
    return low + weight * (high - low)


def _average(image: jax.Array, position: jax.Array, extent: jax.Array, axis: int) -> jax.Array:
    """`_interpolate`, or where pixels are left out a triangle as wide as those that one stands for, in float32.

    Those are the weights of Pillow's BILINEAR, which are made for all pixels of the window at once: [B, new, old].
    """
    centre = jnp.arange(image.shape[axis]) + 0.5
    pace = jnp.abs(position[:, -1] - position[:, 0]) / max(position.shape[1] - 1, 1)
    distance = jnp.abs(centre - position[..., None]) / jnp.maximum(pace, 1.0)[:, None, None]
    weight = jnp.where(centre < extent[..., None], jnp.maximum(0.0, 1.0 - distance), 0.0)
    weight /= jnp.maximum(weight.sum(axis=-1, keepdims=True), 1e-6)
    subscripts = "bnh,bhwc->bnwc" if axis == 1 else "bnw,bhwc->bhnc"
    return jnp.einsum(subscripts, weight, image.astype(jnp.float32), precision=jax.lax.Precision.HIGHEST)


def _take(array: jax.Array, index: jax.Array, axis: int) -> jax.Array:
    """array[b] at index[b] along `axis`, for each b."""
    return jax.vmap(lambda one, where: jnp.take(one, where, axis=axis - 1, mode="clip"))(array, index)


def _mirrored(array: jax.Array, mirror: jax.Array | None) -> jax.Array:
    if mirror is None:
        return array
    return jnp.where(mirror.reshape(-1, *(1,) * (array.ndim - 1)), array[:, :, ::-1], array)
