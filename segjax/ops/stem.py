"""A strided convolution as a dense one: the stride's pixels become channels.

The first convolution of a network reads three channels, which leaves a matrix unit of 128 lanes nearly idle. With 2x2
pixels folded into 12 channels the same 7x7 kernel at stride 2 is a dense 4x4 one (a known device of ResNet
implementations for TPUs); the kernel is folded while tracing, so parameters stay those of the plain convolution.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from segjax.ops.geometry import Pair
from segjax.ops.space_to_depth import space_to_depth


def fold_stride(
    x: jax.Array, kernel: jax.Array, stride: Pair, pads: tuple[Pair, Pair]
) -> tuple[jax.Array, jax.Array, tuple[Pair, Pair]]:
    """(x, kernel, pads) of the convolution at stride 1 that equals the given one.

    Output pixel q meets tap t at input pixel `stride * q + t - before`. With `t - before = stride * d + phase` that is
    phase `phase` of folded pixel `q + d`, so the folded kernel has a tap for each d; its first and last are partly
    zeros where the padding is not a multiple of the stride.

    Args:
      x: [B, H, W, C].
      kernel: [kh, kw, C, features].
      stride: (rows, columns).
      pads: ((top, bottom), (left, right)).
    """
    around, folded = [], []
    for size, taps, s, (before, after) in zip(x.shape[1:3], kernel.shape[:2], stride, pads):
        outputs = (size + before + after - taps) // s + 1
        low, high = -before // s, (taps - 1 - before) // s
        front = -before - s * low
        folded.append((front, s * (high - low + 1) - taps - front))
        around.append((-low, outputs + high - -(-size // s)))
    kernel = jnp.pad(kernel, (*folded, (0, 0), (0, 0)))
    (rows, columns), (height, width, channels, features) = stride, kernel.shape
    kernel = kernel.reshape(height // rows, rows, width // columns, columns, channels, features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(height // rows, width // columns, rows * columns * channels, features)
    return space_to_depth(x, stride), kernel, (around[0], around[1])
