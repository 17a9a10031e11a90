"""A large image through overlapping windows of one static size.

The windows' places depend on shapes only, so the whole pass is one `lax.scan` on the device: one compiled network,
accumulators updated in place. Logits are blended, not labels. Near a window's edge the network lacks context, hence
the gaussian weights of Isensee et al., nnU-Net, Nature Methods 18, 2021 (sigma = an eighth of the window). Windows that
are not blended but cut in the middle of their overlap give what the whole image would, in less memory, where half the
overlap reaches as far as the network sees.

Shape legend: B batch, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import dataclasses
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
    grid = WindowGrid.cover((height, width), window, overlap=overlap, blend=blend, stride=stride)
    if grid.single:
        return network(images)
    size, columns = grid.size, grid.columns
    classes = jax.eval_shape(network, jax.ShapeDtypeStruct((batch, *size, channels), images.dtype)).shape[-1]
    starts = np.asarray(list(itertools.product(grid.rows, columns)), np.int32)
    weights = np.repeat(grid.row_weights, len(columns), axis=0), np.tile(grid.column_weights, (len(grid.rows), 1))

    def one_window(accumulated: jax.Array, one: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        start, row, column = one
        logits = network(jax.lax.dynamic_slice(images, (0, start[0], start[1], 0), (batch, *size, channels)))
        return add_window(accumulated, logits, start, row, column), None

    accumulated = jnp.zeros((batch, height, width, classes), jnp.float32)
    accumulated, _ = jax.lax.scan(one_window, accumulated, (jnp.asarray(starts), *map(jnp.asarray, weights)))
    return accumulated * grid.shares(0, height)[None, :, :, None]


@dataclasses.dataclass(frozen=True)
class WindowGrid:
    """Where the windows of an image of H x W pixels lie, and what each of their pixels weighs.

    Attributes:
      size: (height, width) of a window, no larger than the image.
      rows, columns: where windows begin along each axis; every pair is a window.
      row_weights, column_weights: float32 [windows along the axis, pixels of a window]; a pixel weighs their product.
      sums: float64 [H] and [W], the weights of all windows together along each axis.
    """

    size: tuple[int, int]
    rows: list[int]
    columns: list[int]
    row_weights: np.ndarray
    column_weights: np.ndarray
    sums: tuple[np.ndarray, np.ndarray]

    @classmethod
    def cover(
        cls, image: tuple[int, int], window: tuple[int, int], *, overlap: float, blend: str, stride: int
    ) -> WindowGrid:
        """The windows of an image of (height, width), as `sliding_window` sets them."""
        size = (min(window[0], image[0]), min(window[1], image[1]))
        multiple = stride if blend == "centre" else 1
        rows, columns = (window_starts(n, w, overlap, multiple) for n, w in zip(image, size))
        row_weights = axis_weights(rows, size[0], image[0], blend)
        column_weights = axis_weights(columns, size[1], image[1], blend)
        sums = _sum(rows, row_weights, image[0]), _sum(columns, column_weights, image[1])
        return cls(size, rows, columns, row_weights, column_weights, sums)

    @property
    def single(self) -> bool:
        """Whether one window is the whole image, whose logits are not weighted then."""
        return len(self.rows) == len(self.columns) == 1

    def shares(self, top: int, bottom: int) -> np.ndarray:
        """float32 [bottom - top, W], by which the weighted sums of those rows are multiplied: 1 / all weights.

        XLA turns a division by constants into this product, and a division by an argument not; so that an image
        labelled whole and one labelled a band at a time agree to the bit, it is the product in both.
        """
        return (1 / np.outer(self.sums[0][top:bottom], self.sums[1])).astype(np.float32)


def add_window(
    accumulated: jax.Array, logits: jax.Array, start: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
    """float32 [B, H, W, K] with the weighted logits [B, h, w, K] of one window added at `start`, (top, left)."""
    corner = (0, start[0], start[1], 0)
    weighted = (row[:, None] * column)[None, :, :, None] * logits.astype(jnp.float32)
    before = jax.lax.dynamic_slice(accumulated, corner, logits.shape)
    return jax.lax.dynamic_update_slice(accumulated, before + weighted, corner)


def _sum(starts: list[int], weights: np.ndarray, length: int) -> np.ndarray:
    """float64 [length], the windows' weights together."""
    total = np.zeros(length, np.float64)
    for start, line in zip(starts, weights):
        total[start : start + len(line)] += line
    return total
