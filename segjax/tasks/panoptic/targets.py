"""What Panoptic-DeepLab regresses, from an id map: centres of instances and each pixel's way to its own.

Cheng et al. CVPR 2020, arXiv:1911.10194, section 3.1, as `PanopticTargetGenerator` of bowenc0221/panoptic-deeplab
(`cf8e20b`) has it, but that crowds have no centre: there theirs is in the heatmap, and neighbours learn it.

Shape legend: B batch, H height, W width, N slots.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Centers(NamedTuple):
    """The instances of an id map.

    Attributes:
      place: float32 [B, N, 2], (row, column) of the mean of a slot's pixels, 0 where it has none.
      area: int32 [B, N], pixels.
    """

    place: jax.Array
    area: jax.Array


def centers_of_mass(layer: jax.Array, slots: int) -> Centers:
    """The centre of mass of each slot.

    Args:
      layer: int [B, H, W], k where slot k - 1 is, 0 where none is.
      slots: N.
    """
    images, height, width = layer.shape
    image, layer = jnp.arange(images)[:, None, None], layer.astype(jnp.int32)
    # Counts a row and a column are exact; float32 sums over the pixels themselves would not be.
    rows = jnp.zeros((images, slots + 1, height), jnp.int32)
    rows = rows.at[image, layer, jnp.arange(height)[:, None]].add(1, mode="drop")[:, 1:]
    columns = jnp.zeros((images, slots + 1, width), jnp.int32)
    columns = columns.at[image, layer, jnp.arange(width)].add(1, mode="drop")[:, 1:]
    area = rows.sum(axis=2)
    sums = jnp.stack(
        [(counts * jnp.arange(counts.shape[2], dtype=jnp.float32)).sum(2) for counts in (rows, columns)], -1
    )
    return Centers(sums / jnp.maximum(area, 1)[..., None], area)


def heatmap(place: jax.Array, present: jax.Array, size: tuple[int, int], sigma: float) -> jax.Array:
    """float32 [B, H, W]: of the Gaussians around the centres the largest, 0 from 3 sigma + 1 pixels on.

    Args:
      place: float [B, N, 2], (row, column); a Gaussian stands on the whole pixel.
      present: bool [B, N], which slots have one.
      size: (H, W).
      sigma: standard deviation in pixels.
    """

    def side(center: jax.Array, length: int) -> jax.Array:
        distance = jnp.arange(length) - jnp.floor(center)[..., None]
        near = jnp.abs(distance) <= 3 * sigma + 1
        return jnp.where(near, jnp.exp(-jnp.square(distance) / (2 * sigma**2)), 0.0)

    rows = jnp.where(present[..., None], side(place[..., 0], size[0]), 0.0)
    columns = side(place[..., 1], size[1])
    # The products of one image are never held: the maximum takes them one by one.
    return (rows[:, :, :, None] * columns[:, :, None, :]).max(axis=1, initial=0.0)


def offsets(place: jax.Array, layer: jax.Array) -> jax.Array:
    """float32 [B, H, W, 2]: (rows, columns) from each pixel of an instance to its centre, 0 elsewhere.

    Args:
      place: float [B, N, 2].
      layer: int [B, H, W], as of `centers_of_mass`.
    """
    _, height, width = layer.shape
    pixel = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    return jnp.where(layer[..., None] > 0, of_slots(layer, place) - pixel, 0.0)


def of_slots(layer: jax.Array, values: jax.Array) -> jax.Array:
    """[B, H, W, ...]: what `values` [B, N, ...] has for the slot that a pixel belongs to; 0 where that is none."""
    layer, extra = layer.astype(jnp.int32), [(0, 0)] * (values.ndim - 2)
    slot = jnp.where(layer <= values.shape[1], layer, 0)
    return jax.vmap(lambda table, index: table[index])(jnp.pad(values, ((0, 0), (1, 0), *extra)), slot)
