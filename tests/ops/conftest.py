"""Shared by the oracle tests of the operations."""

from __future__ import annotations

import jax
import pytest


@pytest.fixture
def value_and_pullback():
    """`run(fn, cotangent, *arguments) -> (value, gradients)`, compiled as one program.

    Under jit, because that is how networks run, because some operations have a gradient only outside it, and because
    one program compiles faster than its operations one by one.
    """

    def run(fn, cotangent, *arguments):
        def both(*inner):
            value, pullback = jax.vjp(fn, *inner)
            return value, pullback(cotangent)

        return jax.jit(both)(*arguments)

    return run


@pytest.fixture
def jit_once():
    """`jit_once(fn)` is `jax.jit(fn)`, which fails the test where it traces a second time.

    `chex.assert_max_traces` takes no function of `vmap`, and counts two lambdas of one line as one.
    """

    def jit(fn):
        traces = []

        def counted(*arguments):
            traces.append(None)
            assert len(traces) == 1, "traced again: something of the program depends on its values"
            return fn(*arguments)

        return jax.jit(counted)

    return jit
