"""Which formulation an operation takes on which backend: the one table, and the way to override it.

The same convolution can be written in several ways that XLA compiles very differently. The choices for the CPU were
measured on whole models; a backend that nobody measured keeps XLA's own convolution, except that a grouped one is
always split, because `1 < feature_group_count < channels` gathers the whole batch under any sharding.

A choice is made while tracing. A function that is already compiled keeps the formulation it was traced with.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import jax

_DEFAULT = {"pointwise": "native", "depthwise": "native", "grouped": "split", "atrous": "native", "stem": "native"}
_BY_BACKEND = {
    "cpu": {"pointwise": "dot", "depthwise": "shift", "grouped": "split", "atrous": "crop", "stem": "native"}
}

_override: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar(
    "formulations", default=MappingProxyType({})
)


def formulation(operation: str) -> str:
    """The formulation to trace now for `operation`, one of pointwise, depthwise, grouped, atrous, stem."""
    choices = _override.get()
    if operation in choices:
        return choices[operation]
    backend = choices.get("backend") or jax.default_backend()
    return _BY_BACKEND.get(backend, _DEFAULT)[operation]


@contextlib.contextmanager
def formulations(*, backend: str | None = None, **choices: str) -> Iterator[None]:
    """Trace under another choice: `formulations(backend="tpu")` when compiling ahead of time for a TPU from a machine
    without one, `formulations(depthwise="native")` to compare."""
    if backend is not None:
        choices["backend"] = backend
    token = _override.set({**_override.get(), **choices})
    try:
        yield
    finally:
        _override.reset(token)
