"""All-pairs Gaussian sums as Pallas kernels for TPU and GPU: the pairs of a tile never leave the core, as in
FlashAttention (Dao et al., NeurIPS 2022, arXiv:2205.14135), without its running maximum, since no exponent is positive.

Exponents are float32 sums of squared differences: right for any features, where |a|^2 - 2 a.b + |b|^2 cancels. Products
run on the matrix unit in bfloat16, each float32 factor as a leading part and a rest, which leaves a relative error of
at most 2^-15 of the sum of magnitudes.

The two targets differ in one thing. A TPU core walks its grid in order, so the grid runs over the columns too and adds
to one block of the result; GPU blocks run in any order, so each loops over the columns. `interpret` runs either program
on any backend, slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as pltriton

Target = Literal["tpu", "gpu"]
Tile = Callable[[list[jax.Array], jax.Array | None, jax.Array], jax.Array]

# exp(-s / 2) = 2^(s _EXPONENT): both machines have an instruction for 2^x.
_EXPONENT = float(-0.5 * np.log2(np.e))


class _Limits(NamedTuple):
    """The largest tile in points, and the most channels of one call; more take several."""

    rows: int
    columns: int
    channels: int


_LIMITS = {"tpu": _Limits(512, 1024, 128), "gpu": _Limits(128, 64, 64)}
_GPU_WARPS = 8
MOST_FEATURES = 16
"""All differences of a tile are kept; those of more features do not fit."""


def filter_sums(
    rows: jax.Array, columns: jax.Array, values: jax.Array, *, target: Target, interpret: bool = False
) -> jax.Array:
    """out_i = sum_j exp(-|r_i - c_j|^2 / 2) v_j.

    Args:
      rows, columns: float32 [B, M, d] and [B, N, d].
      values: float32 [B, N, C].

    Returns:
      float32 [B, M, C].
    """
    most = _LIMITS[target].channels
    if values.shape[2] > most:
        halves = jnp.split(values, [values.shape[2] // 2], axis=2)
        sums = [filter_sums(rows, columns, half, target=target, interpret=interpret) for half in halves]
        return jnp.concatenate(sums, axis=2)
    lead, rest = _split(values)
    parts = _pad_channels(jnp.concatenate([lead, rest], axis=2), target)

    def tile(differences, _, parts):
        return sum(_dot(factor, parts, ((1,), (0,))) for factor in _split(_kernel(differences)))

    sums = _run(tile, rows, columns, None, parts, parts.shape[2], target, interpret, "crf_filter_sums")
    lead, rest, _ = jnp.split(sums, np.array([1, 2]) * values.shape[2], axis=2)
    return lead + rest


def feature_pull(
    rows: jax.Array,
    left: jax.Array,
    columns: jax.Array,
    right: jax.Array,
    *,
    target: Target,
    interpret: bool = False,
) -> jax.Array:
    """out_i = sum_j exp(-|r_i - c_j|^2 / 2) (left_i . right_j) (c_j - r_i): the gradient in r of
    sum_ij exp(-|r_i - c_j|^2 / 2) left_i . right_j.

    Args:
      rows, columns: float32 [B, M, d] and [B, N, d].
      left, right: float32 [B, M, K] and [B, N, K].

    Returns:
      float32 [B, M, d].
    """
    most = _LIMITS[target].channels
    if left.shape[2] > most:
        halves = [jnp.split(x, [left.shape[2] // 2], axis=2) for x in (left, right)]
        return sum(feature_pull(rows, a, columns, b, target=target, interpret=interpret) for a, b in zip(*halves))
    d = rows.shape[2]
    width = d if target == "tpu" else pl.next_power_of_2(d)
    # One product of three: lead lead + rest lead + lead rest.
    (a, a_rest), (b, b_rest) = _split(left), _split(right)
    left = _pad_channels(jnp.concatenate([a, a_rest, a], axis=2), target)
    right = _pad_channels(jnp.concatenate([b, b, b_rest], axis=2), target)

    def tile(differences, left, right):
        force = _kernel(differences) * _dot(left, right, ((1,), (1,)))
        sums = [-(force * difference).sum(axis=1, keepdims=True) for difference in differences]
        where = lax.broadcasted_iota(jnp.int32, (force.shape[0], width), 1)
        return sum(jnp.where(where == i, total, 0.0) for i, total in enumerate(sums))

    return _run(tile, rows, columns, left, right, width, target, interpret, "crf_feature_pull")[..., :d]


def _run(
    tile: Tile,
    rows: jax.Array,
    columns: jax.Array,
    left: jax.Array | None,
    right: jax.Array,
    width: int,
    target: Target,
    interpret: bool,
    name: str,
) -> jax.Array:
    """Sum over the columns of `tile`(differences r_i - c_j a feature, left of the rows, right of the columns)."""
    (batch, m, d), n = rows.shape, columns.shape[1]
    tile_rows, tile_columns = _tile_size(m, n, d, target)
    # A padded column has nothing on its right, so it adds nothing, and a padded row is cut off.
    rows, columns, right = (
        _pad_points(rows, tile_rows),
        _pad_points(columns, tile_columns),
        _pad_points(right, tile_columns),
    )
    left = [] if left is None else [_pad_points(left, tile_rows)]
    pairs = batch * rows.shape[1] * columns.shape[1]
    channels = right.shape[2]
    call = _tpu_call if target == "tpu" else _gpu_call
    return call(
        tile,
        (tile_rows, tile_columns),
        [rows, columns.swapaxes(1, 2), right, *left],
        out_shape=jax.ShapeDtypeStruct((batch, rows.shape[1], width), jnp.float32),
        cost_estimate=pl.CostEstimate(
            flops=pairs * (3 * d + (2 if left else 4) * channels),
            transcendentals=pairs,
            bytes_accessed=pairs // tile_rows * (4 * d + 2 * channels) + 4 * batch * rows.shape[1] * (d + width),
        ),
        interpret=interpret,
        name=name,
    )[:, :m]


def _tpu_call(tile: Tile, size: tuple[int, int], operands: list[jax.Array], **settings) -> jax.Array:
    batch, m, d = operands[0].shape
    n, width = operands[1].shape[2], settings["out_shape"].shape[2]

    def kernel(rows, columns, right, *left_and_out):
        *left, out = left_and_out

        @pl.when(pl.program_id(2) == 0)
        def _():
            out[...] = jnp.zeros_like(out)

        differences = [rows[0, :, i : i + 1] - columns[0, i : i + 1, :] for i in range(d)]
        out[0] += tile(differences, left[0][0] if left else None, right[0])

    by_row = lambda width: pl.BlockSpec((1, size[0], width), lambda b, i, j: (b, i, 0))  # noqa: E731
    return pl.pallas_call(
        kernel,
        grid=(batch, m // size[0], n // size[1]),
        in_specs=[
            by_row(d),
            pl.BlockSpec((1, d, size[1]), lambda b, i, j: (b, 0, j)),
            pl.BlockSpec((1, size[1], operands[2].shape[2]), lambda b, i, j: (b, j, 0)),
            *[by_row(left.shape[2]) for left in operands[3:]],
        ],
        out_specs=by_row(width),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        **settings,
    )(*operands)


def _gpu_call(tile: Tile, size: tuple[int, int], operands: list[jax.Array], **settings) -> jax.Array:
    batch, m, d = operands[0].shape
    n, width = operands[1].shape[2], settings["out_shape"].shape[2]

    def kernel(rows, columns, right, *left_and_out):
        *left, out = left_and_out
        here = [rows[0, :, i] for i in range(d)]
        left = left[0][0] if left else None

        def add(j, total):
            there = pl.ds(j * size[1], size[1])
            differences = [r[:, None] - columns[0, i, there][None, :] for i, r in enumerate(here)]
            return total + tile(differences, left, right[0, there, :])

        out[0] = lax.fori_loop(0, n // size[1], add, jnp.zeros((size[0], width), jnp.float32))

    by_row = lambda width: pl.BlockSpec((1, size[0], width), lambda b, i: (b, i, 0))  # noqa: E731
    whole = lambda shape: pl.BlockSpec((1, *shape[1:]), lambda b, i: (b, 0, 0))  # noqa: E731
    return pl.pallas_call(
        kernel,
        grid=(batch, m // size[0]),
        in_specs=[
            by_row(d),
            whole(operands[1].shape),
            whole(operands[2].shape),
            *[by_row(x.shape[2]) for x in operands[3:]],
        ],
        out_specs=by_row(width),
        compiler_params=pltriton.CompilerParams(num_warps=_GPU_WARPS, num_stages=2),
        **settings,
    )(*operands)


def _kernel(differences: list[jax.Array]) -> jax.Array:
    return jnp.exp2(_EXPONENT * sum(difference * difference for difference in differences))


def _dot(a: jax.Array, b: jax.Array, contracted: tuple[tuple[int], tuple[int]]) -> jax.Array:
    # Exact products of bfloat16 whatever the user's default precision is.
    return lax.dot_general(
        a, b, (contracted, ((), ())), precision=lax.Precision.DEFAULT, preferred_element_type=jnp.float32
    )


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """float32 as the sum of two bfloat16. The first is cut off, not rounded, by its bits: XLA may drop a conversion to
    bfloat16 and back."""
    bits = lax.bitcast_convert_type(x, jnp.int32) & np.int32(-(1 << 16))
    lead = lax.bitcast_convert_type(bits, jnp.float32)
    return lead.astype(jnp.bfloat16), (x - lead).astype(jnp.bfloat16)


def _tile_size(m: int, n: int, d: int, target: Target) -> tuple[int, int]:
    limits = _LIMITS[target]
    if target == "gpu":
        return limits.rows, limits.columns
    # What is kept of a tile is d + 1 numbers a pair, and a kernel has 16 MB: the largest tile is for five features.
    pairs = limits.rows * limits.columns * 6 // (d + 1)
    rows = max(128, min(limits.rows, pairs // limits.columns // 128 * 128))
    columns = max(128, min(limits.columns, pairs // rows // 128 * 128))
    return min(rows, -(-m // 128) * 128), min(columns, -(-n // 128) * 128)


def _pad_points(x: jax.Array, multiple: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple), (0, 0)))


def _pad_channels(x: jax.Array, target: Target) -> jax.Array:
    """Triton multiplies matrices whose sides are powers of two, and at least 16."""
    width = x.shape[2] if target == "tpu" else max(16, pl.next_power_of_2(x.shape[2]))
    return jnp.pad(x, ((0, 0), (0, 0), (0, width - x.shape[2])))
