"""One function over the members of a sweep: vmapped on a device, and split over devices where there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segjax.parallel.mesh import line_mesh

MEMBERS = "members"
"""The mesh axis. Not that of a batch: batch normalisation would take its statistics over all members."""


def members_mesh(count: int) -> Mesh:
    """As many of this process's devices as there are members, at most all."""
    devices = jax.local_devices()
    return line_mesh(MEMBERS, devices[: min(count, len(devices))])


def rows_of(count: int, mesh: Mesh) -> list[int]:
    """The member in each row of a stacked array: all in turn, the last one again where devices are left over."""
    rows = -(-count // mesh.size) * mesh.size
    return [min(row, count - 1) for row in range(rows)]


def put_members(tree: Any, mesh: Mesh) -> Any:
    """Arrays with members along their first axis, each device getting its own."""
    return jax.device_put(tree, NamedSharding(mesh, P(MEMBERS)))


def over_members(function: Callable[..., Any], mesh: Mesh, stacked: Sequence[bool]) -> Callable[..., Any]:
    """`function` of one member as a function of all: arguments and results have members along the first axis.

    No device talks to another, and on one device this is `vmap`. On CPUs, where XLA has no fast kernel for the grouped
    convolution that vmap makes of different kernels, a convolution alone is taken member by member.

    Args:
      function: of one member, jittable.
      mesh: of `members_mesh`.
      stacked: which arguments have members along the first axis; the others are the same for all.
    """
    axes = tuple(0 if one else None for one in stacked)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    mapped = _unrolled(function, axes) if on_cpu else jax.vmap(function, axes)
    if mesh.size == 1:
        return mapped
    specs = tuple(P(MEMBERS) if one else P() for one in stacked)
    return jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=P(MEMBERS), check_vma=False)


def _unrolled(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """`jax.vmap(function, axes)` with convolutions member by member."""

    def mapped(*args: Any) -> Any:
        def one(axis: int | None, tree: Any) -> Any:
            cut = 0 if axis is None else 1
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape[cut:], x.dtype, weak_type=jax.typeof(x).weak_type), tree
            )

        closed, shape = jax.make_jaxpr(function, return_shape=True)(*map(one, axes, args))
        values = [(leaf, axis is not None) for axis, tree in zip(axes, args) for leaf in jax.tree.leaves(tree)]
        count = next(leaf.shape[0] for leaf, batched in values if batched)
        outs = _evaluate(closed.jaxpr, closed.consts, values, count)
        leaves = [leaf if batched else jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))) for leaf, batched in outs]
        return jax.tree.unflatten(jax.tree.structure(shape), leaves)

    return mapped


Value = tuple[Any, bool]
"""An array, and whether members lie along its first axis."""

_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call")
"""Operations that only call what is inside them. Remat and loops stay whole, their convolutions grouped."""


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Value], count: int) -> list[Value]:
    known: dict[Any, Value] = {var: (value, False) for var, value in zip(jaxpr.constvars, consts)}
    known.update(zip(jaxpr.invars, args))

    def read(var: Any) -> Value:
        return (var.val, False) if isinstance(var, jex.Literal) else known[var]

    for equation in jaxpr.eqns:
        known.update(zip(equation.outvars, _apply(equation, [read(var) for var in equation.invars], count)))
    return [read(var) for var in jaxpr.outvars]


def _apply(equation: Any, inputs: list[Value], count: int) -> list[Value]:
    primitive, params = equation.primitive, equation.params
    values, batched = [value for value, _ in inputs], [stacked for _, stacked in inputs]
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if primitive.name in _CALLS:
        body, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
        return _evaluate(body, consts, inputs, count)

    def bind(*values: Any) -> Any:
        return primitive.bind(*values, **primitive.get_bind_params(params))

    if not any(batched):
        out = bind(*values)
    elif primitive is lax.conv_general_dilated_p and all(batched):
        out = jnp.stack([bind(*(value[member] for value in values)) for member in range(count)])
    else:
        out = jax.vmap(bind, tuple(0 if stacked else None for stacked in batched))(*values)
    outs = out if primitive.multiple_results else [out]
    return [(value, any(batched)) for value in outs]
