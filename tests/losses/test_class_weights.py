"""Class weights against hand-worked cases."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from segjax.core.errors import ConfigError, DataError
from segjax.losses.class_weights import class_weights

# Ten images of 100 pixels: class 0 in all of them, class 1 in five, class 2 in one.
PIXELS = np.array([850, 100, 50])
IMAGES = np.array([10, 5, 1])


def test_median_frequency():
    # Pixels per image that has the class: 85, 20, 50; the median is 50.
    expected = [50 / 85, 50 / 20, 1.0]
    weights = class_weights("median_frequency", PIXELS, IMAGES)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(class_weights("auto", PIXELS, IMAGES), weights)
    np.testing.assert_allclose(class_weights("median_frequency", PIXELS, IMAGES * 100), weights, rtol=1e-6)


def test_enet_log():
    expected = [1 / np.log(1.02 + share) for share in (0.85, 0.10, 0.05)]
    np.testing.assert_allclose(class_weights("enet_log", PIXELS, IMAGES), expected, rtol=1e-6)


def test_none_is_ones():
    np.testing.assert_array_equal(class_weights("none", [5, 0], [1, 0]), [1, 1])


@pytest.mark.parametrize("kind", ["median_frequency", "enet_log"])
def test_an_absent_class_gets_zero_and_is_named_and_changes_no_other(kind):
    with pytest.warns(UserWarning, match="no pixel of fence in"):
        weights = class_weights(kind, [850, 0, 100, 50], [10, 0, 5, 1], classes=("road", "fence", "car", "pole"))
    assert weights[1] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(weights[[0, 2, 3]], class_weights(kind, PIXELS, IMAGES))


def test_errors_name_the_culprit():
    with pytest.raises(ConfigError, match="'median'"):
        class_weights("median", PIXELS, IMAGES)
    with pytest.raises(DataError, match="no pixel of any class"):
        class_weights("enet_log", [0, 0], [0, 0])
    with pytest.raises(DataError, match="car has pixels but is in no image"):
        class_weights("median_frequency", [3, 4], [1, 0], classes=("road", "car"))
