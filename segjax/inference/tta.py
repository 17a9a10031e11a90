"""Test-time augmentation: the same image at several scales and mirrored, the probabilities averaged.

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from segjax.ops.resize import resize
from segjax.postprocess.semantic import probabilities_of


def single_view(scales: Sequence[float], flip: bool) -> bool:
    """Whether the network sees the image once, as it is."""
    return tuple(scales) == (1.0,) and not flip


def average_views(
    network: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    *,
    scales: Sequence[float],
    flip: bool,
    stride: int,
) -> jax.Array:
    """Mean probabilities float32 [B, H, W, K] over scales and, with `flip`, the mirrored image of each.

    Each scale is resized to the rounded size, padded with zeros (the mean pixel) to the stride, and its logits are
    cropped and resized back before the softmax.

    Args:
      network: float [B, h, w, C] -> logits [B, h, w, K], h and w multiples of `stride`.
      images: normalised float [B, H, W, C].
    """
    _, height, width, _ = images.shape
    total = None
    for scale in scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = images if size == (height, width) else resize(images, size)
        pad = [(0, 0), *((0, -n % stride) for n in size), (0, 0)]
        logits = _both_ways(network, jnp.pad(scaled, pad), flip)
        for view in logits:
            view = view[:, : size[0], : size[1]]
            view = view if size == (height, width) else resize(view, (height, width))
            share = probabilities_of(view)
            total = share if total is None else total + share
    return total / (len(scales) * (2 if flip else 1))


def _both_ways(network: Callable[[jax.Array], jax.Array], images: jax.Array, flip: bool) -> list[jax.Array]:
    """Logits of the image, and those of its mirror image mirrored back; the network is compiled once for both."""
    if not flip:
        return [network(images)]
    pair = jax.lax.map(network, jnp.stack([images, images[:, :, ::-1]]))
    return [pair[0], pair[1][:, :, ::-1]]
