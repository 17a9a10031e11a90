"""An image as the taps of a kernel see it."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from segjax.ops.geometry import Pair


def shifts(
    x: jax.Array, size: Pair, stride: Pair, rate: Pair, pads: tuple[Pair, Pair]
) -> Iterator[tuple[int, int, jax.Array]]:
    """(row, column, x [B, H', W', C] as that tap sees it at every pixel of the result), for a kernel of `size` rows and
    columns; `pads` ((top, bottom), (left, right)) are zeros."""
    zero = jnp.zeros((), x.dtype)
    padded = lax.pad(x, zero, ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
    span = [(n - (k - 1) * r - 1) // s * s + 1 for n, k, r, s in zip(padded.shape[1:3], size, rate, stride)]
    for i in range(size[0]):
        for j in range(size[1]):
            top, left = i * rate[0], j * rate[1]
            yield i, j, padded[:, top : top + span[0] : stride[0], left : left + span[1] : stride[1]]
