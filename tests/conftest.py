"""Settings of the whole suite, made before jax is imported."""

from __future__ import annotations

import os

# Tests compile far more than they compute; LLVM's costly passes change no result beyond rounding.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
