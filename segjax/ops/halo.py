"""Images whose rows are split over devices: each computes its rows of the result from its rows of the input and those
that other devices send (the halo).

Left to itself XLA exchanges a halo too, but gathers whole images where the halo exceeds a device's rows (atrous
convolution at large rates), where the result has other rows than the input (resizing, valid and transposed
convolution) and where rows do not divide; and its gradient of overlapping maxima is wrong (jax 0.10.2). So operations
on windows of rows go through `map_rows`, which learns of the split from the ambient mesh (`jax.set_mesh` around the
step). Every height is exact: the last devices hold rows of padding where it does not divide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from segjax.ops.ambient import ROWS, row_shards
from segjax.ops.geometry import Pair


def halo(x: jax.Array, before: int, after: int) -> jax.Array:
    """Inside a `shard_map` over rows: [B, h, ...] -> [B, before + h + after, ...], the rows of the devices above and
    below; zeros beyond the image. A halo larger than h takes several hops."""
    return jnp.concatenate([*_received(x, before, -1)[::-1], x, *_received(x, after, 1)], axis=1)


def _received(x: jax.Array, rows: int, direction: int) -> list[jax.Array]:
    """The next `rows` rows above (direction -1) or below (1) this device's, in parts, the nearest first."""
    devices, held, parts = lax.axis_size(ROWS), x.shape[1], []
    for hop in range(1, -(-rows // held) + 1):
        count = min(held, rows - (hop - 1) * held)
        first = held - count if direction < 0 else 0
        sent = lax.slice_in_dim(x, first, first + count, axis=1)
        # A device that nobody sends to receives zeros: the padding.
        route = [(i, i - direction * hop) for i in range(devices) if 0 <= i - direction * hop < devices]
        parts.append(lax.ppermute(sent, ROWS, route) if route else jnp.zeros_like(sent))
    return parts


def map_rows(
    body: Callable[..., Any],
    x: Any,
    *others: jax.Array,
    rows: int,
    reads: Callable[[int, int], Pair],
    fill: float = 0,
) -> Any:
    """An operation on row-split images, device by device.

    The backward pass exchanges the halo again rather than keep a second copy of the image.

    Args:
      body: `(part, shard, *others)` -> array(s) with ceil(rows / shards) rows, beginning at row `shard` times that;
        `part` are the rows that `reads` names for these (from its `start` on; the same number on every device),
        `shard` is traced. Rows of its result beyond `rows` are dropped.
      x: one array [B, H, ...] or a tuple of such, split by rows.
      others: arrays that every device holds whole: kernels.
      rows: of the result.
      reads: (first, last) -> (start, stop), the input's rows that output rows first..last - 1 depend on; they may lie
        outside the image.
      fill: what the rows outside the image hold.

    Returns:
      The result of `body` over all rows, split by rows.
    """
    shards = row_shards()
    height = jax.tree.leaves(x)[0].shape[1]
    held, made = -(-height // shards), -(-rows // shards)
    spans = [reads(first, min(first + made, rows)) for first in range(0, rows, made)]
    length = max(stop - start for start, stop in spans)
    before = max(0, *(i * held - max(start, 0) for i, (start, _) in enumerate(spans)))
    after = max(0, *(min(stop, height) - (i + 1) * held for i, (_, stop) in enumerate(spans)))
    offsets = [start - (i * held - before) for i, (start, _) in enumerate(spans)]
    offsets += offsets[-1:] * (shards - len(spans))  # devices whose part of the result is all padding
    # Rows outside the image come from no device.
    above = max(0, -min(offsets))
    below = max(0, max(offset + length for offset in offsets) - (before + held + after))
    offsets = [offset + above for offset in offsets]

    def local(x: Any, index: jax.Array, *others: jax.Array) -> Any:
        shard = index[0]

        def window(a: jax.Array) -> jax.Array:
            a = halo(a, before, after)
            a = jnp.pad(a, ((0, 0), (above, below), *[(0, 0)] * (a.ndim - 2)))
            if fill:
                row = jnp.arange(a.shape[1]) + shard * held - before - above
                inside = ((row >= 0) & (row < height)).reshape(1, -1, *[1] * (a.ndim - 2))
                a = jnp.where(inside, a, jnp.asarray(fill, a.dtype))
            if len(set(offsets)) == 1:
                return lax.slice_in_dim(a, offsets[0], offsets[0] + length, axis=1)
            return lax.dynamic_slice_in_dim(a, jnp.asarray(offsets)[shard], length, axis=1)

        varying = [lax.pcast(other, ROWS, to="varying") for other in others]
        return body(jax.tree.map(window, x), shard, *varying)

    mapped = jax.shard_map(
        jax.checkpoint(local) if before or after else local,
        in_specs=(P(None, ROWS), P(ROWS), *[P()] * len(others)),
        out_specs=P(None, ROWS),
        axis_names={ROWS},
    )
    # jit, because a shard_map over some axes of a mesh does not run outside of it.
    # The index is an argument, because XLA refuses the partition id of `lax.axis_index` in large programs (jax 0.10.2).
    result = jax.jit(mapped)(jax.tree.map(lambda a: _pad_rows(a, held * shards), x), jnp.arange(shards), *others)
    return jax.tree.map(lambda a: lax.slice_in_dim(a, 0, rows, axis=1), result)


def map_windows(
    body: Callable[..., Any],
    x: jax.Array,
    *others: jax.Array,
    span: int,
    stride: int,
    padding: Pair,
    fill: float = 0,
) -> Any:
    """`map_rows` for windows of `span` rows every `stride` rows, after `padding` (above, below) the image. `body`:
    `(part, *others)` -> array(s), as without padding of the rows."""
    rows = (x.shape[1] + sum(padding) - span) // stride + 1
    return map_rows(
        lambda part, _, *others: body(part, *others),
        x,
        *others,
        rows=rows,
        reads=lambda first, last: (first * stride - padding[0], (last - 1) * stride - padding[0] + span),
        fill=fill,
    )


def multiply_rows(matrix: np.ndarray, x: jax.Array, product: Callable[[jax.Array, jax.Array], jax.Array]) -> jax.Array:
    """[B, H, ...] -> [B, R, ...]: `product(matrix, x)` for a constant matrix [R, H] that acts on the rows.

    A banded matrix (resizing) costs a halo. Many rows to few (a pooling pyramid), each device sums over its own, and
    the sums are added up; few rows to many (the pyramid enlarged), every device holds the few.
    """
    shards, (after, before) = row_shards(), matrix.shape
    held, made = -(-before // shards), -(-after // shards)
    used = [np.flatnonzero(weights) for weights in matrix]
    used = [(int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, 1) for columns in used]

    def reads(first: int, last: int) -> Pair:
        return min(start for start, _ in used[first:last]), max(stop for _, stop in used[first:last])

    spans = [reads(first, min(first + made, after)) for first in range(0, after, made)]
    exchanged = max(max(i * held - start, stop - (i + 1) * held) for i, (start, stop) in enumerate(spans))
    if exchanged < (after if after < before else before / 2):
        length = max(stop - start for start, stop in spans)
        parts = np.zeros((shards, made, length), matrix.dtype)
        for i, (start, stop) in enumerate(spans):
            own = matrix[i * made : (i + 1) * made, start:stop]
            parts[i, : len(own), : stop - start] = own
        return map_rows(lambda part, shard: product(jnp.asarray(parts)[shard], part), x, rows=after, reads=reads)
    if before > after:
        parts = np.zeros((after, shards * held), matrix.dtype)
        parts[:, :before] = matrix
        parts = parts.reshape(after, shards, held).swapaxes(0, 1)
        summed = jax.shard_map(
            lambda part, x: lax.psum(product(part[0], x), ROWS),
            in_specs=(P(ROWS), P(None, ROWS)),
            out_specs=P(),
            axis_names={ROWS},
        )
        return jax.jit(summed)(parts, _pad_rows(x, shards * held))
    parts = np.zeros((shards * made, before), matrix.dtype)
    parts[:after] = matrix
    parts = parts.reshape(shards, made, before)
    spread = jax.shard_map(
        lambda part, x: product(part[0], lax.pcast(x, ROWS, to="varying")),
        in_specs=(P(ROWS), P()),
        out_specs=P(None, ROWS),
        axis_names={ROWS},
    )
    return lax.slice_in_dim(jax.jit(spread)(parts, x), 0, after, axis=1)


def take_rows(x: jax.Array, index: np.ndarray) -> jax.Array:
    """[B, H, ...] -> [B, R, ...], `x[:, index]` for a constant index [R]; cheap where a device's rows of the result
    come from rows near its own."""
    shards = row_shards()
    made = -(-len(index) // shards)
    padded = np.pad(index, (0, made * shards - len(index)), mode="edge").reshape(shards, made)
    local = padded - padded.min(axis=1, keepdims=True)
    return map_rows(
        lambda part, shard: jnp.take(part, jnp.asarray(local)[shard], axis=1),
        x,
        rows=len(index),
        reads=lambda first, last: (int(index[first:last].min()), int(index[first:last].max()) + 1),
    )


def _pad_rows(x: jax.Array, rows: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, rows - x.shape[1]), *[(0, 0)] * (x.ndim - 2)))
