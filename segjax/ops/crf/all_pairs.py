"""The exact filter for every machine: a Pallas kernel on TPU and GPU, `exact_filter` elsewhere; each device of a mesh
filters its own images and rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from segjax.core.errors import SizeError
from segjax.ops.ambient import ROWS
from segjax.ops.crf.exact import exact_filter
from segjax.ops.crf.exact_pallas import MOST_FEATURES, Target, feature_pull, filter_sums


def all_pairs_filter(features: jax.Array, values: jax.Array, *, interpret: Target | None = None) -> jax.Array:
    """out_i = sum_j exp(-|f_i - f_j|^2 / 2) v_j, the term j = i included.

    The platform is that of the lowering, so that a program compiled ahead of time for another machine has its kernel.
    Devices learn from the ambient mesh (`jax.set_mesh`) what is split; a jit over several devices needs one on a TPU,
    and a `shard_map` around this needs `check_vma=False`. float64 and more than 16 features stay with
    `exact_filter`.

    Args:
      features: [B, N, d] floating.
      values: [B, N, C] floating.
      interpret: run this machine's kernel on any backend, slowly.

    Returns:
      [B, N, C] of the values' dtype, summed in float32 at least. Reverse-mode differentiable, once in the features.

    Raises:
      SizeError: shapes that do not fit.
    """
    if features.ndim != 3 or values.ndim != 3 or features.shape[:2] != values.shape[:2]:
        raise SizeError(f"features {features.shape} and values {values.shape}: give [B, N, d] and [B, N, C]")
    if jnp.float64 in (features.dtype, values.dtype) or features.shape[2] > MOST_FEATURES:
        return exact_filter(features, values)
    return _filter(features.astype(jnp.float32), values.astype(jnp.float32), interpret).astype(values.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _filter(features: jax.Array, values: jax.Array, interpret: Target | None) -> jax.Array:
    def reference(rows, columns, values):
        return exact_filter(columns, values, at=rows)

    return _on_mesh(_here(filter_sums, reference, interpret), [features], [features, values])


def _forward(features, values, interpret):
    return _filter(features, values, interpret), (features, values)


def _backward(interpret, residuals, gradient):
    features, values = residuals

    def reference(rows, left, columns, right):
        return jax.vjp(lambda at: exact_filter(columns, right, at=at), rows)[1](left)[0]

    # f_i is the row of some pairs and the column of others: sum_j k_ij (g_i . v_j + v_i . g_j) (f_j - f_i).
    left, right = jnp.concatenate([gradient, values], 2), jnp.concatenate([values, gradient], 2)
    in_features = _on_mesh(_here(feature_pull, reference, interpret), [features, left], [features, right])
    # The kernel is symmetric. Under jit, a gradient that nobody wants costs nothing.
    return in_features, _filter(features, gradient, interpret)


_filter.defvjp(_forward, _backward)


def _here(kernel: Callable, reference: Callable, interpret: Target | None) -> Callable[..., jax.Array]:
    if interpret:
        return partial(kernel, target=interpret, interpret=True)
    return partial(
        lax.platform_dependent,
        tpu=partial(kernel, target="tpu"),
        cuda=partial(kernel, target="gpu"),
        default=reference,
    )


def _on_mesh(run: Callable[..., jax.Array], rows: list[jax.Array], columns: list[jax.Array]) -> jax.Array:
    """run(*rows, *columns) -> [B, M, K], where `rows` [B, M, .] are the points of the result, split over devices as
    images and their rows are, and every device has its images' `columns` [B, N, .]. XLA cannot split a kernel itself.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = [name for name, kind in zip(mesh.axis_names, mesh.axis_types) if kind == AxisType.Auto]
    if not axes:
        return run(*rows, *columns)
    batch, points = rows[0].shape[:2]
    split = tuple(axis for axis in axes if axis != ROWS)
    over_images = split if batch % math.prod(mesh.shape[axis] for axis in split) == 0 else None
    over_rows, shards = (ROWS, mesh.shape[ROWS]) if ROWS in axes else (None, 1)
    mapped = jax.shard_map(
        run,
        in_specs=(P(over_images, over_rows),) * len(rows) + (P(over_images),) * len(columns),
        out_specs=P(over_images, over_rows),
        axis_names=set(axes),
        check_vma=False,
    )
    padded = [jnp.pad(x, ((0, 0), (0, -points % shards), (0, 0))) for x in rows]
    # jit, because a shard_map over some axes of a mesh does not run outside of it.
    return jax.jit(mapped)(*padded, *columns)[:, :points]
