"""Memory that a program freed is there for its next call; in processes of their own, since it cannot be undone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import jax, jax.numpy as jnp
from segjax.core.host_memory import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "kept" else None)
call = jax.jit(lambda x: ((x @ x.T + 1) @ x).sum())  # the product between takes 64 MiB
x = jnp.ones((4096, 8))
faults = []
for _ in range(8):  # the heap grows in the first of them
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc")


def told(arm: str, **environment: str) -> list[str]:
    """What keep_freed_memory answered, and the fewest page faults of a call."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, arm],
        env={**clean, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ended.stdout.split()


def test_a_call_faults_no_more_pages():
    answer, faults = told("kept")
    assert answer == "True"
    returned = int(told("returned")[1])
    assert returned > 4096, "XLA or glibc keeps memory by itself: keep_freed_memory may go"
    assert int(faults) < returned / 8


def test_the_environment_has_the_last_word():
    assert told("kept", MALLOC_ARENA_MAX="2")[0] == "False"
