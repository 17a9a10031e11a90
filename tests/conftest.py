"""Settings of the whole suite, made before jax is imported."""

from __future__ import annotations

import os

import pytest

# Tests compile far more than they compute; LLVM's costly passes change no result beyond rounding.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A module's tests stay in one process, which compiles once what they share."""
    from xdist.scheduler import LoadScopeScheduling

    return LoadScopeScheduling(config, log)
