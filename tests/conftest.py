"""Settings of the whole suite, made before jax is imported."""

from __future__ import annotations

import os
from importlib.metadata import version

import pytest

# Tests compile far more than they compute; LLVM's costly passes change no result beyond rounding.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# With as many processes as cores a program is best compiled whole. XLA's older CPU emitters compile in half the time;
# jaxlib 0.11 has them no more, and a flag it does not know ends the process.
CHEAP = "--xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):
    CHEAP += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{CHEAP} {os.environ.get('XLA_FLAGS', '')}".strip()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A module's tests stay in one process, which compiles once what they share."""
    from xdist.scheduler import LoadScopeScheduling

    return LoadScopeScheduling(config, log)
