"""A large image through overlapping windows of one static size.

The windows' places depend on shapes only, so the whole pass is one `lax.scan` on the device: one compiled network,
accumulators updated in place. Logits are blended, not labels. Near a window's edge the network lacks context, hence
the gaussian weights of Isensee et al., nnU-Net, Nature Methods 18, 2021 (sigma = an eighth of the window). Windows that
are not blended but cut in the middle of their overlap give what the whole image would, in less memory, where half the
overlap reaches as far as the network sees.

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ConfigError, SizeError

BLENDS = ("gaussian", "uniform", "centre")


def window_starts(length: int, window: int, overlap: float, multiple: int = 1) -> list[int]:
    """Where windows of `window` pixels begin to cover `length` pixels; the last one ends flush with the edge.

    Args:
      overlap: least share of a window that the next one covers again, in [0, 1).
      multiple: of which the steps between windows are, at the price of more overlap; the stride of a network whose
        windows must see its grid where the whole image would have it.
    """
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap: {overlap} is outside [0, 1), so windows would never advance.")
    if window >= length:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    step = max(multiple, step - step % multiple)
    return [*range(0, length - window, step), length - window]


def axis_weights(starts: list[int], window: int, length: int, blend: str) -> np.ndarray:
    """float32 [windows, window], the weight of each window's pixels along one axis.

    `gaussian`: positive, largest in the middle. `uniform`: 1. `centre`: 1 or 0; each pixel belongs to one window, cut
    from the next in the middle of their overlap.
    """
    if blend not in BLENDS:
        raise ConfigError(f"blend: {blend!r} is not one of {', '.join(BLENDS)}.")
    if blend == "centre":
        cuts = [(after + before + window) // 2 for before, after in itertools.pairwise(starts)]
        place = np.asarray(starts)[:, None] + np.arange(window)
        first, last = np.asarray([0, *cuts])[:, None], np.asarray([*cuts, length])[:, None]
        return ((place >= first) & (place < last)).astype(np.float32)
    line = np.ones(window)
    if blend == "gaussian":
        line = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / (window / 8)) ** 2)
    return np.tile(line.astype(np.float32), (len(starts), 1))


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
    stride: int = 1,
) -> jax.Array:
    """Logits float32 [B, H, W, K] of `images` [B, H, W, C], from windows that cover every pixel.

    A window larger than the image along an axis is cut to the image there.

    Args:
      network: float [B, h, w, C] -> logits [B, h, w, K].
      window: (height, width) in pixels, multiples of the network's stride.
      overlap: share of a window that the next one covers again.
      blend: `gaussian` or `uniform` weights, or each pixel from one window, the one it is more central in: `centre`.
      stride: the network's; `centre` sets windows at its multiples.
    """
    batch, height, width, channels = images.shape
    size = (min(window[0], height), min(window[1], width))
    multiple = stride if blend == "centre" else 1
    rows, columns = (window_starts(n, w, overlap, multiple) for n, w in zip((height, width), size))
    if len(rows) == len(columns) == 1:
        return network(images)
    row_weights = axis_weights(rows, size[0], height, blend)
    column_weights = axis_weights(columns, size[1], width, blend)
    total = np.outer(_sum(rows, row_weights, height), _sum(columns, column_weights, width))
    classes = jax.eval_shape(network, jax.ShapeDtypeStruct((batch, *size, channels), images.dtype)).shape[-1]
    starts = np.asarray(list(itertools.product(rows, columns)), np.int32)
    weights = np.repeat(row_weights, len(columns), axis=0), np.tile(column_weights, (len(rows), 1))

    def add_window(accumulated: jax.Array, one: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        start, row, column = one
        corner = (0, start[0], start[1], 0)
        logits = network(jax.lax.dynamic_slice(images, corner, (batch, *size, channels)))
        weighted = (row[:, None] * column)[None, :, :, None] * logits.astype(jnp.float32)
        before = jax.lax.dynamic_slice(accumulated, corner, (batch, *size, classes))
        return jax.lax.dynamic_update_slice(accumulated, before + weighted, corner), None

    accumulated = jnp.zeros((batch, height, width, classes), jnp.float32)
    accumulated, _ = jax.lax.scan(add_window, accumulated, (jnp.asarray(starts), *map(jnp.asarray, weights)))
    return accumulated / jnp.asarray(total, jnp.float32)[None, :, :, None]


def _sum(starts: list[int], weights: np.ndarray, length: int) -> np.ndarray:
    """float64 [length], the windows' weights together."""
    total = np.zeros(length, np.float64)
    for start, line in zip(starts, weights):
        total[start : start + len(line)] += line
    return total
