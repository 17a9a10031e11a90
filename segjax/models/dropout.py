"""A network's dropout, seen and set from outside: a sweep's members share a program in which rates are arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import Network


def dropout_rates(network: Network) -> dict[str, float]:
    """{path: rate} of the dropout layers that a training step passes through; those of rate 0 may be left out."""
    found = {}

    def note(call, args, kwargs, context):
        if _is_dropout(context):
            found["/".join(context.module.path)] = float(context.module.rate)
        return call(*args, **kwargs)

    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    with nn.intercept_methods(note):
        jax.eval_shape(lambda images: network.init(keys, images, train=True), network.example)
    return found


@dataclasses.dataclass(frozen=True)
class WithDropout:
    """A network whose dropout layers have other rates than their own; for `apply` only.

    Attributes:
      network: one that has all the layers of `rates`.
      rates: {path: rate}, numbers or traced scalars below 1; a rate of 0 drops nothing.
    """

    network: Network
    rates: Mapping[str, Any]

    def apply(self, variables: Any, *args: Any, **settings: Any) -> Any:
        """The network's `apply`; the same random bits as with rates of its own."""
        with nn.intercept_methods(self._drop):
            return self.network.apply(variables, *args, **settings)

    def _drop(self, call, args, kwargs, context):
        path = "/".join(context.module.path)
        if not _is_dropout(context) or path not in self.rates:
            return call(*args, **kwargs)
        return _dropped(context.module, self.rates[path], *args, **kwargs)


def _is_dropout(context: Any) -> bool:
    return isinstance(context.module, nn.Dropout) and context.method_name == "__call__"


def _dropped(
    layer: nn.Dropout, rate: Any, inputs: jax.Array, deterministic: bool | None = None, rng: jax.Array | None = None
) -> jax.Array:
    """`nn.Dropout.__call__`, whose comparisons of the rate need a number, without them."""
    if nn.merge_param("deterministic", layer.deterministic, deterministic):
        return inputs
    keep = 1.0 - rate  # 1 drops nothing
    shape = list(inputs.shape)
    for axis in layer.broadcast_dims:
        shape[axis] = 1
    kept = jax.random.bernoulli(layer.make_rng(layer.rng_collection) if rng is None else rng, keep, shape)
    return jnp.where(kept, inputs / jnp.asarray(keep, inputs.dtype), jnp.zeros_like(inputs))
