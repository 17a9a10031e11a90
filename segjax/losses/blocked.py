"""The loss of `Logits`, block of columns by block of columns: they are never all in memory at full size.

A block's gradient is computed with its value, while its logits are there, and kept at the size of the values; the
backward pass scales it. Columns come last until the loss is taken, because a TPU pads the last axis to 128.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from segjax.losses.base import Loss
from segjax.ops.linear_map import along_axis
from segjax.ops.logits import Logits
from segjax.ops.resize import resize_matrix

BLOCKS = 8


def blocked_sums(
    loss: Loss,
    logits: Logits,
    labels: jax.Array,
    valid: jax.Array,
    *,
    class_weights: jax.Array | None = None,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """float32 [B, H]: a `pixelwise` loss's values summed along each row; arguments as `Loss.__call__` takes them.

    The values are interpolated along the height first and at once, so that rows may be split over devices.
    """
    height, width = logits.size
    values = logits.values.swapaxes(2, 3)
    tall = along_axis(resize_matrix(values.shape[1], height, align_corners=logits.align_corners), values, 1)
    how = _How(loss, width, logits.align_corners, label_smoothing)
    return _blocked_sums(how, tall, labels, valid, class_weights)


class _How(NamedTuple):
    """What is known while tracing."""

    loss: Loss
    width: int
    align_corners: bool
    label_smoothing: float


class _Block(NamedTuple):
    """Columns of the image, the columns of the values that they read, and the weights."""

    columns: slice
    window: slice
    matrix: np.ndarray


def _blocks(before: int, how: _How) -> Iterator[_Block]:
    matrix = resize_matrix(before, how.width, align_corners=how.align_corners)
    step = -(-how.width // BLOCKS)
    for start in range(0, how.width, step):
        columns = slice(start, min(start + step, how.width))
        read = np.flatnonzero(matrix[columns].any(axis=0))
        window = slice(int(read[0]), int(read[-1]) + 1)
        yield _Block(columns, window, matrix[columns, window])


def _of_block(how: _How, block: _Block, labels, valid, class_weights, window: jax.Array) -> jax.Array:
    """The block's part of `blocked_sums`, of its window [B, H, K, w']."""
    exact = lax.Precision.HIGHEST if window.dtype == jnp.float32 else None
    weights = jnp.asarray(block.matrix, window.dtype)
    logits = jnp.einsum("bhkw,Ww->bhkW", window, weights, precision=exact).swapaxes(2, 3)
    values, _ = how.loss(
        logits,
        labels[:, :, block.columns],
        valid[:, :, block.columns],
        class_weights=class_weights,
        label_smoothing=how.label_smoothing,
    )
    return values.sum(axis=-1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked_sums(how: _How, tall: jax.Array, *others) -> jax.Array:
    return sum(_of_block(how, block, *others, tall[..., block.window]) for block in _blocks(tall.shape[3], how))


def _forward(how: _How, tall: jax.Array, *others):
    total, gradient = jnp.zeros(tall.shape[:2], tall.dtype), jnp.zeros_like(tall)
    for block in _blocks(tall.shape[3], how):
        sums, pullback = jax.vjp(partial(_of_block, how, block, *others), tall[..., block.window])
        (part,) = pullback(jnp.ones_like(sums))
        part += gradient[..., block.window]  # windows overlap
        total, gradient = total + sums, lax.dynamic_update_slice_in_dim(gradient, part, block.window.start, axis=3)
        # One block after the other, or their logits would be in memory together after all.
        tall, total, gradient = lax.optimization_barrier((tall, total, gradient))
    return total, gradient


def _backward(how: _How, gradient: jax.Array, g: jax.Array):
    # A row's sum depends on that row alone.
    return gradient * g[:, :, None, None], None, None, None


_blocked_sums.defvjp(_forward, _backward)
