"""Static sizes of windowed operations: pairs, explicit padding; which pixels of padded images are image."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError

Pair = tuple[int, int]
Padding = str | int | tuple[Pair, Pair]


def pair(value: int | Pair) -> Pair:
    """`3` -> `(3, 3)`; a pair (rows, columns) stays."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def inside(sizes: jax.Array, height: int, width: int) -> jax.Array:
    """bool [B, H, W]: which pixels of an image padded at the bottom and right belong to it.

    Args:
      sizes: int [B, 2], each image's true (height, width).
    """
    rows = jnp.arange(height) < sizes[:, :1]
    columns = jnp.arange(width) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def check_image(x: jax.Array, what: str) -> None:
    """Raises ModelError unless x is [B, H, W, C]; `what` is the operation that the message names."""
    if x.ndim != 4:
        raise ModelError(f"{what} takes an image [B, H, W, C]; got the shape {x.shape}")


def check_positive(what: str, **numbers: int | Pair) -> None:
    """Raises ModelError for a number below 1, by its keyword: `check_positive("pooling", stride=(2, 0))`."""
    for name, number in numbers.items():
        if min(pair(number)) < 1:
            raise ModelError(f"{what}: {name}={number} must be positive")


def explicit_padding(padding: Padding, kernel: Pair, rate: Pair) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) in pixels.

    `"same"` pads `kernel // 2 * rate` on both sides whatever the stride, as PyTorch models do (XLA's SAME is lopsided
    at stride 2, which shifts features against weights trained elsewhere). `"valid"` pads nothing; an int pads all four
    sides.

    Raises:
      ModelError: another string.
    """
    if padding == "same":
        top, left = (k // 2 * r for k, r in zip(kernel, rate))
        return (top, top), (left, left)
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, str):
        raise ModelError(f"padding {padding!r} is unknown: use 'same', 'valid', an int or ((t, b), (l, r))")
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)
