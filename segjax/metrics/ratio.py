"""Quotients of whole numbers in more bits than float32 has, on devices without float64.

A quotient becomes the whole numbers of its binary digits. They compare exactly, and their sums do not depend on the
order of adding, as sums of floats do.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

PARTS = 3
PART_BITS = 15  # int32 sums of 65,535 quotients stay below 2^31; 45 bits leave an error below 3e-14 a quotient


def binary_digits(numerator: jax.Array, denominator: jax.Array, bits: int) -> tuple[jax.Array, jax.Array]:
    """Long division: floor(2^bits n / d), and what is left over, whose quotient by d has the digits that follow.

    Args:
      numerator: int32 of any shape, 0 <= n <= d.
      denominator: int32 of the same shape, below 2^30; a quotient by 0 is 0.
      bits: at most 30.

    Returns:
      digits: int32, 0 .. 2^bits.
      rest: int32, 0 <= rest < d.
    """
    denominator = jnp.maximum(denominator, 1)
    whole = (numerator >= denominator).astype(jnp.int32)

    def digit(_, carry):
        digits, rest = carry
        one = (2 * rest >= denominator).astype(jnp.int32)
        return 2 * digits + one, 2 * rest - one * denominator

    return jax.lax.fori_loop(0, bits, digit, (whole, numerator - whole * denominator))


def split_ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """int32 [..., PARTS] of quotients n / d: digits of weight 2^-15, 2^-30, 2^-45; see `binary_digits` for bounds."""
    parts = []
    for _ in range(PARTS):
        digits, numerator = binary_digits(numerator, denominator, PART_BITS)
        parts.append(digits)
    return jnp.stack(parts, axis=-1)


def joined(parts: np.ndarray) -> np.ndarray:
    """float64 [...] of int64 [..., PARTS], sums of what `split_ratio` returns."""
    weights = 2.0 ** (-PART_BITS * np.arange(1, PARTS + 1))
    return (np.asarray(parts, np.float64) * weights).sum(axis=-1)
