"""Initial variables without compiling the network.

`jax.jit(model.init)` compiles one random kernel a parameter, which takes XLA longer than the whole train step (33 to
44 s for ENet on two cores). Here `init` is only traced, and what the variables depend on, nothing of the forward pass,
is evaluated by numpy on the host. Random bits come from Philox keyed by jax's own key data, so initial values depend
on the seed and on the parameter's path alone: not on the mesh, the platform or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.special
from jax.extend import core as jex


def initialise(init: Callable[..., Any], key: jax.Array, *args: Any) -> Any:
    """The pytree of `init(key, *args)` as numpy arrays.

    Args:
      init: traceable; takes a typed key, then `args`.
      key: a typed PRNG key.
      args: arrays or their shapes. A variable whose initial value depends on theirs is refused.

    Raises:
      ValueError: where a variable depends on the content of `args`.
    """
    closed, shape = jax.make_jaxpr(init, return_shape=True)(key, *args)
    inputs = [key, *[None] * (len(closed.jaxpr.invars) - 1)]
    leaves = _evaluate(closed.jaxpr, closed.consts, inputs)
    avals = jax.tree.leaves(shape)
    leaves = [np.array(leaf, dtype=aval.dtype).reshape(aval.shape) for leaf, aval in zip(leaves, avals)]
    return jax.tree.unflatten(jax.tree.structure(shape), leaves)


def _evaluate(jaxpr: Any, consts: list[Any], args: list[Any]) -> list[Any]:
    """Values of a jaxpr's outputs, computing only the equations they need."""
    known = dict(zip(jaxpr.constvars, consts))
    known.update((var, value) for var, value in zip(jaxpr.invars, args) if value is not None)
    needed = {var for var in jaxpr.outvars if not isinstance(var, jex.Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            equations.append(equation)
            needed.update(var for var in equation.invars if not isinstance(var, jex.Literal))

    def read(var: Any) -> Any:
        if isinstance(var, jex.Literal):
            return var.val
        if var not in known:
            raise ValueError(f"an initial value depends on the input of shape {var.aval.shape}")
        return known[var]

    for equation in reversed(equations):
        values = _apply(equation, [read(var) for var in equation.invars])
        known.update(zip(equation.outvars, values))
    return [read(var) for var in jaxpr.outvars]


def _apply(equation: Any, values: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if name in ("jit", "pjit", "closed_call", "custom_jvp_call", "checkpoint"):
        return (
            _evaluate(inner.jaxpr, inner.consts, values) if hasattr(inner, "consts") else _evaluate(inner, [], values)
        )
    out = equation.outvars[0].aval
    if name == "random_bits":
        return [_random_bits(values[0], params["shape"], out.dtype)]
    if name == "broadcast_in_dim":
        shape = [1] * len(params["shape"])
        for axis, length in zip(params["broadcast_dimensions"], np.shape(values[0])):
            shape[axis] = length
        return [np.broadcast_to(np.reshape(values[0], shape), params["shape"])]
    if name in ("convert_element_type", "reshape", "bitcast_convert_type"):
        array = np.asarray(values[0])
        if name == "bitcast_convert_type":
            array = np.ascontiguousarray(array).view(out.dtype)
        return [array.astype(out.dtype).reshape(out.shape)]
    if name in _ELEMENTWISE:
        with np.errstate(all="ignore"):
            return [np.asarray(_ELEMENTWISE[name](*map(np.asarray, values))).astype(out.dtype)]
    # Anything rarer (orthogonal's QR, a key's fold_in) runs as a jax operation of its own, on the host's numbers.
    result = equation.primitive.bind(*values, **params)
    return list(result) if equation.primitive.multiple_results else [result]


def _random_bits(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    words = np.asarray(jax.random.key_data(key), np.uint32).reshape(-1)
    # key_data has two words (threefry) or four (rbg); SeedSequence mixes either into Philox's key.
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(words.tolist())))
    return generator.integers(0, np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "erf": scipy.special.erf,
    "erf_inv": scipy.special.erfinv,
    "nextafter": np.nextafter,
    "or": np.bitwise_or,
    "and": np.bitwise_and,
    "shift_right_logical": np.right_shift,
    "stop_gradient": np.asarray,
    "copy": np.asarray,
}
