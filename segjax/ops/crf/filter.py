"""One interface over the Gaussian filters: build once an image, apply at every iteration, in either direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, SizeError, suggest
from segjax.ops.crf.all_pairs import all_pairs_filter
from segjax.ops.crf.gaussian import gaussian_filter
from segjax.ops.crf.grid import grid_filter, grid_shape
from segjax.ops.crf.lattice import Lattice, build_lattice, cells, lattice_filter
from segjax.ops.crf.local import local_filter

Method = Literal["lattice", "exact", "grid", "local", "gaussian"]
Normalization = Literal["symmetric", "before", "after", "none"]
METHODS = ("lattice", "exact", "grid", "local", "gaussian")
NORMALIZATIONS = ("symmetric", "before", "after", "none")

# Vertices a point: natural images at theta_beta = 3 have about one, reduced ones two and more. Up to so many vertices
# memory does not matter, and there are all d + 1.
_CAPACITY = 3
_SMALL_CAPACITY = 1 << 18
# Slots of the lattice's table, 256 MB; above it, sorting costs no more.
_TABLE = 1 << 26
_GRID = 1 << 26


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Filter:
    """A normalised Gaussian filter of a batch of point sets: what `build_filter` makes and `apply_filter` takes.

    Attributes:
      tables: what the method needs: features, a bandwidth, or a lattice.
      norm: float32 [B, N, 1], 1 / sqrt(K 1) or 1 / (K 1); None without normalisation, and where the Gaussian of
        position has it in its taps.
      overflow: bool [], the tables were too small, so every result is NaN; `check_filter` turns it into an error.
      count: int32 [], entries in use of the lattice's `capacity`, of the whole batch; 0 for other methods.
      method, normalization, options, size: static.
    """

    tables: Any
    norm: jax.Array | None
    overflow: jax.Array
    count: jax.Array
    method: Method = field(metadata={"static": True})
    normalization: Normalization = field(metadata={"static": True})
    options: tuple[tuple[str, Any], ...] = field(metadata={"static": True})
    size: tuple[int, int] | None = field(metadata={"static": True})

    def image(self, values: jax.Array) -> jax.Array:
        """[B, N, C] -> [B, H, W, C]."""
        return values.reshape(values.shape[0], *self.size, values.shape[-1])


def build_filter(
    features: jax.Array,
    method: Method = "lattice",
    *,
    normalization: Normalization = "symmetric",
    exclude_self: bool = False,
    size: tuple[int, int] | None = None,
    extent: Sequence[float] | None = None,
    capacity: int | None = None,
    cell: float = 1.0,
    window: int = 11,
    blur: int = 1,
) -> Filter:
    """A filter with the kernel k(i, j) = exp(-|f_i - f_j|^2 / 2), normalised with n = K 1 (Krähenbühl and Koltun,
    Parameter learning and convergent inference for dense random fields, ICML 2013, section 4).

    Args:
      features: [B, N, d] or [N, d] in units of the standard deviation, see `features`. Differentiable with `exact` and
        `local`; with `lattice`, through the barycentric weights only, a noisy gradient; not with `grid`.
      method: `lattice` (permutohedral, any d), `exact` (all pairs), `grid` (bilateral grid, needs `extent`), `local`
        (a window of pixels, needs `size`).
      normalization: `symmetric` n^-1/2 K n^-1/2, `before` K n^-1, `after` n^-1 K, `none` K. The lattice's own K is the
        Gaussian's times about 1.7 at d = 5.
      exclude_self: leave out j = i; for `exact` and for `local` without blur.
      size: (H, W) with N = H * W, for `local`.
      extent: largest minus smallest value of each feature, [d] numbers. The grid needs it, the lattice is faster with
        it; features that span more give an overflow.
      capacity: of lattice vertices an image, default 3 N, or (d + 1) N if that is small; (d + 1) N always suffice.
      cell: of the grid, in standard deviations.
      window, blur: of `local`, see `local_filter`.

    Raises:
      SizeError: shapes that do not fit. ModelError: an unknown method or normalisation, or an option out of range.
    """
    if features.ndim not in (2, 3):
        raise SizeError(f"features have shape {features.shape}; a filter takes [B, N, d] or [N, d]")
    _check_choice("method", method, tuple(m for m in METHODS if m != "gaussian"))
    features = features if features.ndim == 3 else features[None]
    batch, points, d = features.shape
    if extent is not None and len(extent) != d:
        raise SizeError(f"extent has {len(extent)} entries for {d} features; give one each")
    if exclude_self and (method in ("lattice", "grid") or blur > 1):
        raise ModelError(f"exclude_self needs method='exact', or 'local' with blur=1, not {method!r}")
    features = features.astype(jnp.promote_types(features.dtype, jnp.float32))
    overflow, count, tables, options = jnp.zeros((), bool), jnp.zeros((), jnp.int32), features, {}
    if method == "exact":
        options = {"exclude_self": exclude_self}
    elif method == "local":
        if size is None or size[0] * size[1] != points:
            raise SizeError(f"method='local' needs size=(H, W) with H * W = {points}, got {size}")
        if window < 1 or window % 2 == 0 or blur < 1:
            raise ModelError(f"window={window}, blur={blur}: give an odd window and a positive blur")
        options = {"exclude_self": exclude_self, "window": window, "blur": blur}
    elif method == "grid":
        if extent is None:
            raise ModelError("method='grid' needs extent, the span of each feature")
        shape = grid_shape(extent, cell)
        cell_count = 1
        for n in shape:
            cell_count *= n
        if batch * cell_count > _GRID:
            raise SizeError(
                f"the bilateral grid of shape {shape} for {batch} images has {batch * cell_count:,} cells, over "
                f"{_GRID:,}; use larger bandwidths, or method='lattice'"
            )
        options = {"shape": shape, "cell": cell}
    else:
        if capacity is None:
            capacity = min((d + 1) * points, max(_CAPACITY * points, _SMALL_CAPACITY))
        if capacity < 1:
            raise ModelError(f"capacity={capacity}: give a positive number of lattice vertices")
        table = cells(extent, batch) if extent is not None else None
        tables = build_lattice(features, batch * capacity, table if table is not None and table <= _TABLE else None)
        overflow, count = tables.overflow, tables.count
    filter = Filter(tables, None, overflow, count, method, normalization, _frozen(options), size)
    return _normalised(filter, jnp.ones((batch, points, 1), features.dtype))


def build_gaussian(
    batch: int,
    size: tuple[int, int],
    theta: float | jax.Array,
    *,
    normalization: Normalization = "symmetric",
    exclude_self: bool = False,
    truncate: float | None = None,
) -> Filter:
    """The filter over pixel positions alone: exact and separable; theta in pixels, differentiable when traced.
    `truncate`: see `gaussian_filter`; None for its default."""
    options = {"exclude_self": exclude_self} | ({} if truncate is None else {"truncate": truncate})
    traced = isinstance(theta, jax.core.Tracer)
    tables = theta if traced else None
    if not traced:
        options["theta"] = float(theta)
    filter = Filter(
        tables, None, jnp.zeros((), bool), jnp.zeros((), jnp.int32), "gaussian", normalization, _frozen(options), size
    )
    dtype = jnp.result_type(jnp.float32, theta) if traced else jnp.float32
    return _normalised(filter, jnp.ones((batch, size[0] * size[1], 1), dtype)) if exclude_self else _checked(filter)


def apply_filter(filter: Filter, values: jax.Array, *, transpose: bool = False) -> jax.Array:
    """Filter [B, N, C] (or [N, C], of one image) values; the same shape and dtype, summed in float32 at least.

    `transpose` applies the adjoint, which differs from the filter for the lattice, whose axes do not commute, and for
    the one-sided normalisations. Where the filter overflowed, the result is NaN.
    """
    if values.ndim == 2:
        return apply_filter(filter, values[None], transpose=transpose)[0]
    wide = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    side = filter.normalization
    if transpose:
        side = {"before": "after", "after": "before"}.get(side, side)
    return _apply(filter, wide, transpose, side).astype(values.dtype)


def check_filter(filter: Filter) -> None:
    """A SizeError when a concrete filter has overflowed; nothing while tracing, where the results are NaN instead."""
    if not isinstance(filter.overflow, jax.core.Tracer):
        check_overflow(filter.overflow, filter.count)


def check_overflow(overflow: jax.Array, count: jax.Array) -> None:
    """The error of `check_filter`, from the two numbers that tell."""
    if bool(overflow):
        raise SizeError(
            f"the permutohedral lattice overflowed: {int(count):,} vertices for the whole batch do not fit, or a "
            "feature is not finite or beyond its extent; raise capacity or the bandwidths, check the image's range"
        )


def _normalised(filter: Filter, ones: jax.Array) -> Filter:
    if _checked(filter).normalization == "none":
        return filter
    total = _apply(filter, ones, False, "none") + 1e-20
    return replace(filter, norm=jax.lax.rsqrt(total) if filter.normalization == "symmetric" else 1 / total)


def _apply(filter: Filter, values: jax.Array, transpose: bool, normalization: Normalization) -> jax.Array:
    options = dict(filter.options)
    if filter.method == "gaussian" and not options["exclude_self"]:
        return _gaussian(filter, values, normalization)
    before, after = (filter.norm if normalization in ("symmetric", side) else None for side in ("before", "after"))
    if filter.method == "lattice":
        return lattice_filter(filter.tables, values, transpose, before, after)
    out = _raw(filter, values if before is None else values * before, transpose)
    return out if after is None else out * after


def _raw(filter: Filter, values: jax.Array, transpose: bool) -> jax.Array:
    """K v. Every kernel but the lattice's and a blurred local one is symmetric."""
    options = dict(filter.options)
    if filter.method == "grid":
        return grid_filter(filter.tables, values, **options)
    if filter.method == "local":
        run = lambda v: local_filter(filter.image(filter.tables), filter.image(v), **options).reshape(v.shape)  # noqa: E731
        return jax.vjp(run, jnp.zeros_like(values))[1](values)[0] if transpose else run(values)
    out = all_pairs_filter(filter.tables, values) if filter.method == "exact" else _gaussian(filter, values, "none")
    return out - values if options["exclude_self"] else out


def _gaussian(filter: Filter, values: jax.Array, normalization: Normalization) -> jax.Array:
    options = {"theta": filter.tables} | dict(filter.options)
    del options["exclude_self"]
    return gaussian_filter(filter.image(values), **options, normalization=normalization).reshape(values.shape)


def _checked(filter: Filter) -> Filter:
    _check_choice("normalization", filter.normalization, NORMALIZATIONS)
    return filter


def _frozen(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ModelError(f"{name}={value!r} is unknown.{suggest(str(value), known)}")


__all__ = ["Filter", "Lattice", "apply_filter", "build_filter", "build_gaussian", "check_filter", "check_overflow"]
