"""A large image through overlapping windows of one static size.

The windows' places depend on shapes only, so the whole pass is one `lax.scan` on the device: one compiled network,
accumulators updated in place. Logits are blended, not labels. Near a window's edge the network lacks context, hence
the gaussian weights of Isensee et al., nnU-Net, Nature Methods 18, 2021 (sigma = an eighth of the window).

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError, SizeError

BLENDS = ("gaussian", "uniform")


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows of `window` pixels begin to cover `length` pixels; the last one ends flush with the edge.

    Args:
      overlap: least share of a window that the next one covers again, in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap: {overlap} is outside [0, 1), so windows would never advance.")
    if window >= length:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, step), length - window]


def blend_weights(window: tuple[int, int], blend: str) -> np.ndarray:
    """float32 [h, w], positive, largest in the middle (`gaussian`) or 1 everywhere (`uniform`)."""
    if blend not in BLENDS:
        raise ConfigError(f"blend: {blend!r} is not one of {', '.join(BLENDS)}.")
    if blend == "uniform":
        return np.ones(window, np.float32)
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in window]
    return np.outer(*axes).astype(np.float32)


def check_window(window: tuple[int, int], stride: int) -> None:
    """Raises SizeError when `window` is not a multiple of the network's stride."""
    if any(n < 1 or n % stride for n in window):
        fit = "x".join(str(-(-max(n, 1) // stride) * stride) for n in window)
        raise SizeError(f"window {window[0]}x{window[1]} is not a multiple of the stride {stride}: use {fit}.")


def sliding_window(
    network: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    *,
    window: tuple[int, int],
    overlap: float = 0.5,
    blend: str = "gaussian",
) -> jax.Array:
    """Logits float32 [B, H, W, K] of `images` [B, H, W, C], from windows that cover every pixel.

    A window larger than the image along an axis is cut to the image there.

    Args:
      network: float [B, h, w, C] -> logits [B, h, w, K].
      window: (height, width) in pixels, multiples of the network's stride.
      overlap: share of a window that the next one covers again.
      blend: `gaussian` or `uniform` weights.
    """
    batch, height, width, channels = images.shape
    size = (min(window[0], height), min(window[1], width))
    starts = list(itertools.product(window_starts(height, size[0], overlap), window_starts(width, size[1], overlap)))
    if len(starts) == 1:
        return network(images)
    weights = blend_weights(size, blend)
    total = np.zeros((height, width), np.float64)
    for top, left in starts:
        total[top : top + size[0], left : left + size[1]] += weights
    classes = jax.eval_shape(network, jax.ShapeDtypeStruct((batch, *size, channels), images.dtype)).shape[-1]
    weight = jnp.asarray(weights)[None, :, :, None]

    def add_window(accumulated: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        corner = (0, start[0], start[1], 0)
        logits = network(jax.lax.dynamic_slice(images, corner, (batch, *size, channels)))
        before = jax.lax.dynamic_slice(accumulated, corner, (batch, *size, classes))
        return jax.lax.dynamic_update_slice(accumulated, before + weight * logits.astype(jnp.float32), corner), None

    accumulated = jnp.zeros((batch, height, width, classes), jnp.float32)
    accumulated, _ = jax.lax.scan(add_window, accumulated, jnp.asarray(starts, jnp.int32))
    return accumulated / jnp.asarray(total, jnp.float32)[None, :, :, None]
