from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.core.errors import ConfigError, SizeError
from segjax.core.schema import LOGITS
from segjax.inference.sliding_window import blend_weights, check_window, sliding_window, window_starts
from tests.inference.pixel_network import PixelNet, images, variables


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.95))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_pixel_and_stay_inside(length: int, window: int, overlap: float) -> None:
    starts = window_starts(length, window, overlap)
    covered = np.zeros(length, int)
    for start in starts:
        assert start >= 0
        assert start + min(window, length) <= length
        covered[start : start + window] += 1
    assert covered.min() >= 1
    assert len(set(starts)) == len(starts)


def test_overlap_is_at_least_what_was_asked_for() -> None:
    assert window_starts(100, 40, 0.5) == [0, 20, 40, 60]
    assert window_starts(90, 40, 0.25) == [0, 30, 50]
    with pytest.raises(ConfigError, match="overlap"):
        window_starts(100, 40, 1.0)


@pytest.mark.parametrize("blend", ["gaussian", "uniform"])
@pytest.mark.parametrize(("window", "overlap"), [((8, 12), 0.5), ((16, 8), 0.3), ((64, 8), 0.0)])
def test_pixelwise_network_sees_the_same_through_windows(blend: str, window: tuple[int, int], overlap: float) -> None:
    x = images(2, 20, 28).astype(np.float32) / 50
    weights = variables()

    def network(views: jax.Array) -> jax.Array:
        return PixelNet().apply(weights, views, train=False)[LOGITS]

    seen = jax.jit(lambda v: sliding_window(network, v, window=window, overlap=overlap, blend=blend))(x)
    np.testing.assert_allclose(seen, network(x), rtol=1e-5, atol=1e-5)


def test_blending_is_the_weighted_mean_of_the_windows() -> None:
    """Oracle in float64: a network that is not local, so windows disagree where they overlap."""
    x = images(1, 8, 12).astype(np.float32) / 255

    def network(views):
        return views - views.mean(axis=(1, 2), keepdims=True)

    seen = sliding_window(network, x, window=(8, 8), overlap=0.5, blend="gaussian")
    weight = blend_weights((8, 8), "gaussian").astype(np.float64)[..., None]
    total, norm = np.zeros((8, 12, 3)), np.zeros((8, 12, 1))
    for left in (0, 4):
        part = x[0, :, left : left + 8].astype(np.float64)
        total[:, left : left + 8] += weight * (part - part.mean(axis=(0, 1)))
        norm[:, left : left + 8] += weight
    np.testing.assert_allclose(seen[0], total / norm, atol=1e-5)


def test_gaussian_weights_are_positive_and_largest_in_the_middle() -> None:
    weights = blend_weights((17, 33), "gaussian")
    assert weights.min() > 0
    assert np.unravel_index(weights.argmax(), weights.shape) == (8, 16)
    with pytest.raises(ConfigError, match="linear"):
        blend_weights((8, 8), "linear")


def test_window_off_the_stride_is_refused_with_the_size_to_take() -> None:
    check_window((64, 96), 32)
    with pytest.raises(SizeError, match=r"64x100 .* use 64x128"):
        check_window((64, 100), 32)
