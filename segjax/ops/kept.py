"""Arrays that XLA computes once, however often they are read."""

from __future__ import annotations

import jax
from jax.experimental.xla_metadata import set_xla_metadata

from segjax.ops.ambient import row_shards
from segjax.ops.formulation import formulation


def kept(x: jax.Array) -> jax.Array:
    """x, written out where XLA would compute it in each of its readers ("call").

    XLA's CPU compiler fuses an elementwise result, and all below it, into all that reads it: the gradient of an image
    that twelve concatenations hold is a sum of twelve slices, computed again for every shift that is read of it. What
    a call returns is fused into nothing, and a call of the identity copies nothing. (`optimization_barrier` is taken
    out before XLA fuses.)
    """
    if _native():
        return x
    with set_xla_metadata(inlineable="false"):
        return _called(x)


def gradient_kept(x: jax.Array) -> jax.Array:
    """x, whose gradient is `kept`."""
    return x if _native() else _identity(x)


@jax.jit
def _called(x: jax.Array) -> jax.Array:
    return x


@jax.custom_vjp
def _identity(x: jax.Array) -> jax.Array:
    return x


_identity.defvjp(lambda x: (x, None), lambda _, gradient: (kept(gradient),))


def _native() -> bool:
    # Of an uneven split of rows XLA gathers what it calls with.
    return formulation("kept") == "native" or row_shards() > 1
