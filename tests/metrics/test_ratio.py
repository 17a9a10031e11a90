"""Quotients in more bits than float32, against Python's whole numbers."""

from __future__ import annotations

from fractions import Fraction

import jax
import numpy as np

from segjax.metrics.ratio import PARTS, binary_digits, joined, split_ratio


def pairs(largest: int, count: int = 500):
    rng = np.random.default_rng(0)
    denominator = rng.integers(1, largest, count, dtype=np.int32)
    numerator = (denominator * rng.random(count)).astype(np.int32)
    numerator[:20] = denominator[:20]
    numerator[20:40] = 0
    return numerator, denominator


def test_digits_are_those_of_long_division():
    numerator, denominator = pairs(1 << 30)
    digits, rest = jax.jit(binary_digits, static_argnums=2)(numerator, denominator, 30)
    for n, d, q, r in zip(numerator.tolist(), denominator.tolist(), np.asarray(digits), np.asarray(rest)):
        assert divmod(n << 30, d) == (q, r)


def test_sums_of_quotients_are_exact_to_45_bits():
    numerator, denominator = pairs(1 << 22)
    parts = jax.jit(split_ratio)(numerator, denominator)
    assert parts.shape == (*numerator.shape, PARTS)
    exact = sum(Fraction(n, d) for n, d in zip(numerator.tolist(), denominator.tolist()))
    total = joined(np.asarray(parts, np.int64).sum(axis=0))
    assert 0 <= exact - Fraction(float(total)) < len(numerator) * 2**-44
    np.testing.assert_array_equal(joined(np.asarray(parts)[:20]), 1.0)


def test_a_quotient_by_zero_is_zero():
    assert not np.asarray(split_ratio(np.zeros(1, np.int32), np.zeros(1, np.int32))).any()
