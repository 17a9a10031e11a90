"""Masks of boxes pasted into the image.

D detections; M the side of a mask, 28 in Mask R-CNN; H, W of the image.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.geometry import Pair
from segjax.ops.precision import widen


def paste_masks(masks: jax.Array, boxes: jax.Array, size: Pair, threshold: float | None = None) -> jax.Array:
    """Each mask stretched over its box, bilinear, 0 outside: detectron2's `paste_masks_in_image`, `_do_paste_mask`.

    Pixel centres at + 0.5 are mapped into the box, and the mask continues with zeros, as `grid_sample` has it with
    align_corners=False. That is separable: two products with one weight matrix an axis. It differs from torchvision's
    paste, which rounds the box to whole pixels, by some per cent of a small object's pixels.

    The result is D * H * W numbers: paste chunks of detections into a large image.

    Args:
      masks: floating [D, M, M] (or two different sides), probabilities.
      boxes: [D, 4] x0, y0, x1, y1 in pixels of the result; a box without an inside pastes nothing.
      size: (H, W), static.
      threshold: makes the result bool, true from there on; detectron2 has 0.5.

    Returns:
      [D, H, W] of the masks' dtype, or bool.
    """
    chex.assert_rank(masks, 3)
    chex.assert_shape(boxes, (masks.shape[0], 4))
    boxes = widen(boxes)
    rows = _weights(boxes[:, 1], boxes[:, 3], size[0], masks.shape[1]).astype(masks.dtype)
    columns = _weights(boxes[:, 0], boxes[:, 2], size[1], masks.shape[2]).astype(masks.dtype)
    # A reduced-precision product would move the threshold's outline.
    pasted = jnp.einsum("dhi,dij,dwj->dhw", rows, masks, columns, precision=lax.Precision.HIGHEST)
    return pasted if threshold is None else pasted >= threshold


def _weights(low: jax.Array, high: jax.Array, pixels: int, side: int) -> jax.Array:
    """[D, pixels, side]: of each of the mask's pixels in each of the image's."""
    length = (high - low)[:, None]
    inside = length > 0
    place = (jnp.arange(pixels) + 0.5 - low[:, None]) / jnp.where(inside, length, 1) * side - 0.5
    weights = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(side)), 0)
    return jnp.where(inside[..., None], weights, 0)
