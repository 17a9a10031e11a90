from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.core.errors import ConfigError, SizeError
from segjax.core.schema import LOGITS
from segjax.inference.sliding_window import axis_weights, check_window, sliding_window, window_starts
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


@pytest.mark.parametrize("blend", ["gaussian", "uniform", "centre"])
@pytest.mark.parametrize(("window", "overlap"), [((8, 12), 0.5), ((16, 8), 0.3), ((64, 8), 0.0)])
def test_pixelwise_network_sees_the_same_through_windows(blend: str, window: tuple[int, int], overlap: float) -> None:
    x = images(2, 20, 28).astype(np.float32) / 50
    weights = variables()

    def network(views: jax.Array) -> jax.Array:
        return PixelNet().apply(weights, views, train=False)[LOGITS].upsample()

    seen = jax.jit(lambda v: sliding_window(network, v, window=window, overlap=overlap, blend=blend))(x)
    np.testing.assert_allclose(seen, network(x), rtol=1e-5, atol=1e-5)


def test_blending_is_the_weighted_mean_of_the_windows() -> None:
    """Oracle in float64: a network that is not local, so windows disagree where they overlap."""
    x = images(1, 8, 12).astype(np.float32) / 255

    def network(views):
        return views - views.mean(axis=(1, 2), keepdims=True)

    seen = sliding_window(network, x, window=(8, 8), overlap=0.5, blend="gaussian")
    line = axis_weights([0], 8, 8, "gaussian")[0].astype(np.float64)
    weight = np.outer(line, line)[..., None]
    total, norm = np.zeros((8, 12, 3)), np.zeros((8, 12, 1))
    for left in (0, 4):
        part = x[0, :, left : left + 8].astype(np.float64)
        total[:, left : left + 8] += weight * (part - part.mean(axis=(0, 1)))
        norm[:, left : left + 8] += weight
    np.testing.assert_allclose(seen[0], total / norm, atol=1e-5)


def test_gaussian_weights_are_positive_and_largest_in_the_middle() -> None:
    (weights,) = axis_weights([0], 17, 17, "gaussian")
    assert weights.min() > 0
    assert weights.argmax() == 8
    with pytest.raises(ConfigError, match="linear"):
        axis_weights([0], 8, 8, "linear")


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.95), st.sampled_from([1, 4, 16]))
@settings(max_examples=200, deadline=None)
def test_cut_windows_give_every_pixel_once_and_keep_to_the_stride(length, window, overlap, multiple) -> None:
    length, window = length * multiple, min(window, length) * multiple
    starts = window_starts(length, window, overlap, multiple)
    assert all(start % multiple == 0 for start in starts)
    total = np.zeros(length)
    for start, line in zip(starts, axis_weights(starts, window, length, "centre")):
        total[start : start + window] += line
    np.testing.assert_array_equal(total, 1)


def test_cut_windows_equal_the_whole_image_where_they_hold_all_that_the_network_sees() -> None:
    """A stride of 2, and 14 pixels seen to either side; zero padding at the image's edges counts as in the whole."""
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 3, 3)) / 3

    def convolution(x, stride=1):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def network(x):
        for stride in (2, 1, 1, 1, 1, 1):
            x = convolution(x, stride) + 1
        return jax.numpy.repeat(jax.numpy.repeat(x, 2, axis=1), 2, axis=2)

    x = images(1, 96, 80).astype(np.float32) / 255
    whole = network(x)
    seen = sliding_window(network, x, window=(48, 48), overlap=0.6, blend="centre", stride=2)
    np.testing.assert_allclose(seen, whole, rtol=1e-5, atol=1e-5)
    blended = sliding_window(network, x, window=(48, 48), overlap=0.6)
    assert float(abs(blended - whole).max()) > 1e-2


def test_window_off_the_stride_is_refused_with_the_size_to_take() -> None:
    check_window((64, 96), 32)
    with pytest.raises(SizeError, match=r"64x100 .* use 64x128"):
        check_window((64, 100), 32)
