"""Everything a run changes from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from segjax.parallel.sharding import state_sharding
from segjax.training.initialise import initialise


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """A pytree.

    Attributes:
      step: int32 scalar, optimiser steps done.
      params: float32 parameters.
      model_state: the network's other collections, `{"batch_stats": ...}`, or empty.
      opt_state: optax's.
      ema: moving average of the parameters, or None.
    """

    step: Any
    params: Any
    model_state: Any
    opt_state: Any
    ema: Any = None

    @property
    def eval_variables(self) -> dict[str, Any]:
        """What evaluation applies the network with: averaged parameters where there are any, live statistics."""
        return {"params": self.params if self.ema is None else self.ema, **self.model_state}


def init_variables(model: Any, seed: int, shape: Sequence[int]) -> dict[str, Any]:
    """The network's initial variables as numpy arrays; `shape` is that of one input: (height, width, channels)."""
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return initialise(lambda key, x: model.init(key, x), jax.random.key(seed), inputs)


def abstract_state(
    variables: dict[str, Any],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    ema: bool,
    rules: Mapping[str, int | None] | None = None,
) -> TrainState:
    """The state's shapes, dtypes and shardings; `rules` as in `state_sharding`."""
    state = jax.eval_shape(lambda v: _fresh(v, tx, ema), variables)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_sharding(mesh, state, rules),
    )


def init_state(
    variables: dict[str, Any],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    ema: bool,
    rules: Mapping[str, int | None] | None = None,
) -> TrainState:
    """A state at step 0 on the mesh; no device ever holds more of it than its own share.

    Args:
      variables: the network's, as host arrays, the same in every process.
      tx: optimiser.
      mesh: where the state lives.
      ema: whether parameters are averaged; the average starts at their initial values.
      rules: as in `state_sharding`.
    """
    shardings = state_sharding(mesh, variables, rules)
    variables = jax.tree.map(_spread, variables, shardings)
    state = jax.eval_shape(lambda v: _fresh(v, tx, ema), variables)
    return jax.jit(lambda v: _fresh(v, tx, ema), out_shardings=state_sharding(mesh, state, rules))(variables)


def _fresh(variables: dict[str, Any], tx: optax.GradientTransformation, ema: bool) -> TrainState:
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state={key: value for key, value in variables.items() if key != "params"},
        opt_state=tx.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )


def _spread(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
