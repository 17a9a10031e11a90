"""Static sizes of windowed operations: pairs, explicit padding."""

from __future__ import annotations

from segjax.core.errors import ModelError

Pair = tuple[int, int]
Padding = str | int | tuple[Pair, Pair]


def pair(value: int | Pair) -> Pair:
    """`3` -> `(3, 3)`; a pair (rows, columns) stays."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


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
