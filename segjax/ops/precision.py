"""In which type sums are taken: float32, or the operands' own where that is wider."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def wide_type(dtype: Any) -> jnp.dtype:
    """float32 for the types up to it, float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(x: jax.Array) -> jax.Array:
    """x in `wide_type`."""
    return x.astype(wide_type(x.dtype))
