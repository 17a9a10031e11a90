"""Gaussian filtering on the permutohedral lattice (Adams, Baek and Davis, Fast high-dimensional filtering using the
permutohedral lattice, Eurographics 2010), with static shapes.

A point is written as a weighted sum of the d + 1 vertices of the simplex around it (splat), the vertices are blurred
along each of the d + 1 axes, and the point reads the sum back with the same weights (slice). Only the vertices that a
point touches exist, so a missing neighbour counts as zero; that is why the axes do not commute, the filter is not
symmetric, and its adjoint blurs them in the reverse order.

Vertices need a number. The lattice is sheared so that the box around the image's features, counted in lattice cells,
is a box again: a vertex then has an exact mixed-radix key below 2^32. The distinct keys are found either through a
table with one slot a cell of the box, which suits few cells, or by sorting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_NONE = np.uint32(0xFFFFFFFF)  # no vertex: above every key, so that sorting puts it last
_Tables = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # vertex, before, after, count
# Points, and vertices, handled at a time on a CPU: the products stay in its cache.
_POINTS, _VERTICES = 512, 4096


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lattice:
    """The tables of one lattice over a batch; every image has its own vertices.

    Attributes:
      vertex: int32 [chunks, d + 1, chunk], of each point's vertices; `capacity` where it has none.
      weight: float32 [chunks, d + 1, chunk], barycentric; 0 for the padding after the last point.
      before, after: int32 [d + 1, capacity], each vertex's neighbours along each axis; `capacity` where there is none.
      count: int32 [], distinct vertices of the whole batch.
      overflow: bool [], the vertices do not fit the capacity, or the box of features the keys; results are NaN.
    """

    vertex: jax.Array
    weight: jax.Array
    before: jax.Array
    after: jax.Array
    count: jax.Array
    overflow: jax.Array


def cells(extent: Sequence[float], batch: int) -> int:
    """How many cells the table must hold for `batch` images whose features span at most `extent` ([d], unitless)."""
    d = len(extent)
    total = batch * (d + 1)
    for j, (span, scale) in enumerate(zip(extent, _scales(d)), start=1):
        total *= math.floor(span * scale * j / (d + 1) + 2 * j / (j + 1) + 2e-2) + 2
    return total


def build_lattice(features: jax.Array, capacity: int, table: int | None = None) -> Lattice:
    """The lattice over [B, N, d] float32 features in units of the standard deviation.

    Args:
      features: differentiable, through the barycentric weights only: piecewise linear, so the gradient is noisy.
      capacity: of vertices, for the whole batch.
      table: slots of the direct table, see `cells`; None sorts, and needs no bound on the features.
    """
    batch, points, d = features.shape
    low, size = _box(lax.stop_gradient(features))
    image = jnp.repeat(jnp.arange(batch, dtype=jnp.uint32), points)
    simplex = _simplex(features.reshape(batch * points, d))
    corners = jnp.arange(d + 1)
    # Loops, because XLA would fuse the geometry into each of its users: ten times the time of the whole build on a CPU.
    key, weight = lax.map(lambda r: (_key(image, r, _corner(simplex, r), low, size), _weight(simplex, r)), corners)
    # In float32, which cannot wrap around.
    total = jnp.prod(size.astype(jnp.float32)) * batch * (d + 1)
    fits = (total < min(table or 2.0**32, 2.0**32)) & jnp.all(jnp.isfinite(features))
    if table is None:
        vertices, count = _distinct_by_sorting(key.reshape(-1), capacity)
        slots = None
    else:
        vertices, count, slots = _distinct_by_table(key.reshape(-1), capacity, table)

    def neighbours(rows, vertices, slots, low, size):
        def along(axis):
            before = _number(_neighbour(vertices[:rows], axis, low, size), vertices, slots)
            # The neighbour after is the inverse permutation of the neighbour before.
            after = jnp.full((capacity,), capacity, jnp.int32)
            after = after.at[before].set(jnp.arange(rows, dtype=jnp.int32), mode="drop")
            return jnp.pad(before, (0, capacity - rows), constant_values=capacity), after

        return lax.map(along, corners)

    before, after = _sized(neighbours, capacity, count, vertices, slots, low, size)
    vertex = _in_chunks(_number(key, vertices, slots), capacity)
    overflow = (count > capacity) | ~fits
    weight = _in_chunks(jnp.where(overflow, jnp.nan, weight), 0)
    return Lattice(vertex, weight, before, after, count, overflow)


def lattice_filter(
    lattice: Lattice,
    values: jax.Array,
    reverse: bool = False,
    before: jax.Array | None = None,
    after: jax.Array | None = None,
) -> jax.Array:
    """Splat, blur and slice [B, N, C] values; `reverse` is the adjoint. `before` and `after` [B, N, 1] scale the values
    and the result, at no cost, in the weights. Differentiable in the values and, through the barycentric weights, in
    the features."""
    flat = values.reshape(-1, values.shape[-1])
    tables = (lattice.vertex, lattice.before, lattice.after, lattice.count)
    shape = lattice.weight.shape
    padding = shape[0] * shape[2] - flat.shape[0]

    def scaled(by):
        if by is None:
            return lattice.weight
        return lattice.weight * jnp.pad(by.reshape(-1), (0, padding)).reshape(shape[0], 1, shape[2])

    return _filter(reverse, tables, scaled(before), scaled(after), flat).reshape(values.shape)


# Geometry


def _scales(d: int) -> list[float]:
    """Of each feature, so that one blur over the axes is a Gaussian of unit variance (Adams et al., section 3.1)."""
    return [math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]


def _simplex(features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The simplex around each of [P, d] points (Adams et al., sections 3 and 4.1), each [d + 1, P]: its remainder-0
    vertex divided by d + 1, int32; the rank of each coordinate, int32; how far the point is from the vertex, in steps
    of d + 1."""
    d = features.shape[1]
    scaled = [features[:, i] * np.float32(s) for i, s in enumerate(_scales(d))]
    total = jnp.zeros_like(scaled[0])
    elevated = [total] * (d + 1)
    for j in range(d, 0, -1):
        elevated[j] = total - j * scaled[j - 1]
        total = total + scaled[j - 1]
    elevated[0] = total
    fixed = [lax.stop_gradient(e) for e in elevated]
    rounded = [jnp.round(e * np.float32(1 / (d + 1))) for e in fixed]
    away = [e - r * (d + 1) for e, r in zip(fixed, rounded)]
    rank = [sum(rounded).astype(jnp.int32)] * (d + 1)
    for i in range(d):
        for j in range(i + 1, d + 1):
            below = (away[i] < away[j]).astype(jnp.int32)
            rank[i], rank[j] = rank[i] + below, rank[j] + (1 - below)
    # Rounding may leave the plane: the ranks then run past 0..d, and wrapping them around brings the point back.
    wrap = [jnp.where(r < 0, 1, jnp.where(r > d, -1, 0)) for r in rank]
    coordinate = jnp.stack([r.astype(jnp.int32) + w for r, w in zip(rounded, wrap)])
    rank = jnp.stack([r + w * (d + 1) for r, w in zip(rank, wrap)])
    return coordinate, rank, jnp.stack(elevated) / (d + 1) - coordinate.astype(jnp.float32)


def _corner(simplex: tuple[jax.Array, ...], r: jax.Array) -> list[jax.Array]:
    """The coordinates 1..d of the simplex's r-th vertex; a coordinate q stands for (d + 1) q + r."""
    coordinate, rank, _ = simplex
    d = len(rank) - 1
    return [coordinate[i] - (rank[i] > d - r).astype(jnp.int32) for i in range(1, d + 1)]


def _weight(simplex: tuple[jax.Array, ...], r: jax.Array) -> jax.Array:
    """The barycentric weight of the simplex's r-th vertex, float32 [P]."""
    _, rank, away = simplex
    d = len(rank) - 1
    # Written out: XLA reduces over a leading axis of six column by column.
    share = lambda k: sum(jnp.where(rank[i] == k, away[i], 0.0) for i in range(d + 1))  # noqa: E731
    return share(d - r) - share((d + 1 - r) % (d + 1)) + (r == 0)


# Keys


def _box(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The lowest digit and the number of digits, int32 [d] each, that the features' vertices can have.

    Digit j of a vertex is floor(y), where y is that combination of its coordinates j..d which for a point of the plane
    is its j-th scaled feature alone, times -j / (d + 1); a vertex of the simplex around the point is within j / (j + 1)
    of it.
    """
    d = features.shape[-1]
    j = np.arange(1, d + 1, dtype=np.float32)
    step = -j / (d + 1) * np.asarray(_scales(d), np.float32)
    margin = j / (j + 1) + np.float32(1e-2)
    ends = features.min((0, 1)) * step, features.max((0, 1)) * step
    low = jnp.floor(jnp.minimum(*ends) - margin)
    return low.astype(jnp.int32), (jnp.floor(jnp.maximum(*ends) + margin) - low).astype(jnp.int32) + 1


def _shear(r: jax.Array, above: jax.Array, j: int) -> jax.Array:
    """What turns coordinate j into digit j, given the remainder and the sum of the coordinates above; half a step from
    every boundary, so that rounding cannot change it."""
    return jnp.floor((above + r + 0.5) * np.float32(1 / (j + 1))).astype(jnp.int32)


def _key(image: jax.Array, r: jax.Array, q: list[jax.Array], low: jax.Array, size: jax.Array) -> jax.Array:
    """uint32, one for each vertex of each image; `_NONE` outside the box. r is int32, a number or one a vertex."""
    key, above, inside = image, jnp.zeros_like(q[-1]), True
    for j in range(len(q), 0, -1):
        digit = q[j - 1] + _shear(r, above, j) - low[j - 1]
        inside &= (digit >= 0) & (digit < size[j - 1])
        key = key * size[j - 1].astype(jnp.uint32) + digit.astype(jnp.uint32)
        above = above + q[j - 1]
    return jnp.where(inside, key * jnp.uint32(len(q) + 1) + r.astype(jnp.uint32), _NONE)


def _neighbour(key: jax.Array, axis: jax.Array, low: jax.Array, size: jax.Array) -> jax.Array:
    """The key of each vertex's neighbour along an axis: every coordinate is one less, that of the axis d more."""
    d = size.shape[0]
    r, rest = (key % jnp.uint32(d + 1)).astype(jnp.int32), key // jnp.uint32(d + 1)
    digits = []
    for j in range(1, d + 1):
        span = size[j - 1].astype(jnp.uint32)
        digits.append((rest % span).astype(jnp.int32) + low[j - 1])
        rest = rest // span
    q, above = digits, jnp.zeros_like(digits[0])
    for j in range(d, 0, -1):
        q[j - 1] = digits[j - 1] - _shear(r, above, j)
        above = above + q[j - 1]
    # (d + 1) q + r - 1: either the remainder goes down, or q does; the axis itself is d + 1 further on.
    borrow = (r == 0).astype(jnp.int32)
    q = [x - borrow + (axis == j) for j, x in enumerate(q, start=1)]
    return jnp.where(key == _NONE, _NONE, _key(rest, jnp.where(r == 0, d, r - 1), q, low, size))


def _distinct_by_table(key: jax.Array, capacity: int, table: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The sorted distinct keys [capacity], their count, and the table from key to number."""
    rows = jnp.arange(key.shape[0], dtype=jnp.int32)
    slots = jnp.full((table,), capacity, jnp.int32).at[key].set(rows, mode="drop")
    first = slots.at[key].get(mode="fill", fill_value=-1) == rows
    vertices, count = _compact(key, first, capacity)
    # Sorting makes the numbers follow the lattice, so that the blur's gathers read memory nearly in order.
    in_order = lambda rows, vertices: lax.dynamic_update_slice(vertices, lax.sort(vertices[:rows]), (0,))  # noqa: E731
    vertices = _sized(in_order, capacity, count, vertices)
    slots = slots.at[vertices].set(jnp.arange(capacity, dtype=jnp.int32), mode="drop")
    return vertices, count, slots


def _distinct_by_sorting(key: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array]:
    key = lax.sort(key)
    first = jnp.concatenate([jnp.ones((1,), bool), key[1:] != key[:-1]]) & (key != _NONE)
    return _compact(key, first, capacity)


def _compact(key: jax.Array, chosen: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array]:
    position = jnp.cumsum(chosen.astype(jnp.int32))
    target = jnp.where(chosen, position - 1, capacity)
    return jnp.full((capacity,), _NONE, jnp.uint32).at[target].set(key, mode="drop"), position[-1]


def _sized(run: Callable[..., Any], capacity: int, count: jax.Array, *args: Any) -> Any:
    """run(rows, *args) with rows = capacity; a CPU, which pays for every row, takes an eighth or half of them if that
    does."""
    sizes = [-(-capacity // 8), -(-capacity // 2), capacity]
    runs = [partial(run, rows) for rows in sizes]
    on_cpu = lambda count, *args: lax.switch(sum(count > rows for rows in sizes[:-1]), runs, *args)  # noqa: E731
    return lax.platform_dependent(count, *args, cpu=on_cpu, default=lambda count, *args: runs[-1](*args))


def _number(key: jax.Array, vertices: jax.Array, slots: jax.Array | None) -> jax.Array:
    """int32, each key's place among the vertices; the capacity for a key that is not there."""
    capacity = vertices.shape[0]
    if slots is not None:
        # Beyond the capacity a slot still holds a row: the missing vertex takes those.
        return jnp.minimum(slots.at[key].get(mode="fill", fill_value=capacity), capacity)
    place = jnp.searchsorted(vertices, key).astype(jnp.int32)
    found = (vertices.at[place].get(mode="fill", fill_value=0) == key) & (key != _NONE)
    return jnp.where(found, place, capacity)


def _in_chunks(table: jax.Array, fill: int) -> jax.Array:
    """[d + 1, P] -> [chunks, d + 1, chunk]."""
    corners, points = table.shape
    # A divisor spares every use the copy that padding costs.
    divisors = (n for n in range(min(_POINTS, points), _POINTS // 4, -1) if points % n == 0)
    chunk = next(divisors, min(_POINTS, points))
    padded = jnp.pad(table, ((0, 0), (0, -points % chunk)), constant_values=fill)
    return padded.reshape(corners, -1, chunk).swapaxes(0, 1)


# Filtering


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _filter(reverse: bool, tables: _Tables, splat: jax.Array, slice: jax.Array, values: jax.Array) -> jax.Array:
    def run(rows, tables, splat, slice, values):
        tables = _first(tables, rows)
        return _slice(tables, slice, _blur(tables, _splat(tables, splat, values), reverse), values.shape[0])

    _, before, _, count = tables
    return _sized(run, before.shape[1], count, tables, splat, slice, values)


def _filter_forward(reverse, tables, splat, slice, values):
    return _filter(reverse, tables, splat, slice, values), (tables, splat, slice, values)


def _filter_backward(reverse, residuals, gradient):
    tables, splat, slice, values = residuals
    # Dead code, which XLA removes, unless someone wants the gradient in the features.
    there = _blur(tables, _splat(tables, splat, values), reverse)
    back = _blur(tables, _splat(tables, slice, gradient), not reverse)
    in_weights = _slope(tables, values, back), _slope(tables, gradient, there)
    return None, *in_weights, _filter(not reverse, tables, slice, splat, gradient)


_filter.defvjp(_filter_forward, _filter_backward)


def _first(tables: _Tables, rows: int) -> _Tables:
    """The tables of the first `rows` vertices, which are all there are."""
    vertex, before, after, count = tables
    return jnp.minimum(vertex, rows), *(jnp.minimum(side[:, :rows], rows) for side in (before, after)), count


def _splat(tables: _Tables, weight: jax.Array, values: jax.Array) -> jax.Array:
    """[P, C] -> [capacity + 1, C]; the last row is the missing vertex's and stays zero."""
    vertex, before = tables[:2]
    rows = _rows(vertex, values)
    empty = jnp.zeros((before.shape[1] + 1, values.shape[1]), jnp.promote_types(weight.dtype, values.dtype))

    def add(sums, chunk):
        vertex, weight, rows = chunk
        # A fusion into the scatter would not be vectorised.
        updates = lax.optimization_barrier(weight[..., None] * rows)
        return sums.at[vertex].add(updates, mode="promise_in_bounds"), None

    def chunked(vertex, weight, rows):
        return lax.scan(add, empty, (vertex, weight, rows))[0]

    def at_once(vertex, weight, rows):
        updates = weight[..., None] * rows[:, None]
        return empty.at[vertex].add(updates, mode="promise_in_bounds")

    sums = lax.platform_dependent(vertex, weight, rows, cpu=chunked, default=at_once)
    return sums.at[-1].set(0)


def _blur(tables: _Tables, sums: jax.Array, reverse: bool) -> jax.Array:
    """1/2, 1, 1/2 along every axis."""
    _, before, after, count = tables
    axes, capacity = before.shape
    order = range(axes - 1, -1, -1) if reverse else range(axes)
    chunk = min(_VERTICES, capacity)

    def chunked(sums, before, after, count):
        # Only as many chunks as there are vertices. The last one starts early enough to end at the capacity.
        other = jnp.zeros_like(sums)
        for axis in order:

            def step(i, out, sums=sums, axis=axis):
                start = jnp.minimum(i * chunk, capacity - chunk)
                left, right = (lax.dynamic_slice_in_dim(t[axis], start, chunk) for t in (before, after))
                near = [sums.at[side].get(mode="promise_in_bounds") for side in (left, right)]
                here = lax.dynamic_slice_in_dim(sums, start, chunk)
                return lax.dynamic_update_slice_in_dim(out, here + 0.5 * (near[0] + near[1]), start, 0)

            sums, other = lax.fori_loop(0, -(-jnp.minimum(count, capacity) // chunk), step, other), sums
        return sums

    def at_once(sums, before, after, count):
        for axis in order:
            near = [sums.at[side[axis]].get(mode="promise_in_bounds") for side in (before, after)]
            sums = lax.dynamic_update_slice(sums, sums[:-1] + 0.5 * (near[0] + near[1]), (0, 0))
        return sums

    return lax.platform_dependent(sums, before, after, count, cpu=chunked, default=at_once)


def _slice(tables: _Tables, weight: jax.Array, sums: jax.Array, points: int) -> jax.Array:
    """[capacity + 1, C] -> [points, C]."""
    vertex = tables[0]
    corners = vertex.shape[1]

    def read(tables):
        vertex, weight = tables
        rows = [sums.at[vertex[..., r, :]].get(mode="promise_in_bounds") for r in range(corners)]
        return sum(weight[..., r, :, None] * x for r, x in enumerate(rows)) * _gain(corners)

    # In a loop of their own, because a CPU's gathers take ten times as long when XLA fuses them with what follows.
    out = lax.platform_dependent((vertex, weight), cpu=lambda t: lax.map(read, t), default=read)
    return out.reshape(-1, sums.shape[1])[:points]


def _slope(tables: _Tables, rows: jax.Array, sums: jax.Array) -> jax.Array:
    """The gradient of <rows, slice(sums)> in the weights."""
    vertex = tables[0]
    rows = _rows(vertex, rows)
    read = [sums.at[vertex[:, r]].get(mode="promise_in_bounds") for r in range(vertex.shape[1])]
    return jnp.stack([jnp.sum(x * rows, -1) for x in read], 1) * _gain(len(read))


def _rows(vertex: jax.Array, values: jax.Array) -> jax.Array:
    chunks, _, chunk = vertex.shape
    return jnp.pad(values, ((0, chunks * chunk - values.shape[0]), (0, 0))).reshape(chunks, chunk, -1)


def _gain(corners: int) -> float:
    """Adams et al.'s correction of the blur's total weight."""
    return 1 / (1 + 2.0 ** -(corners - 1))
