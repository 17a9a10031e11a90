"""Anchors against the numbers of detectron2's own tests, and against their definition."""

from __future__ import annotations

import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.anchors import pyramid_anchors

# tests/modeling/test_anchor_generator.py of detectron2: sizes 32, 64, ratios 1/4, 1, 4, stride 4, a map of 1 x 2.
FIRST = [
    [-32, -8, 32, 8],
    [-16, -16, 16, 16],
    [-8, -32, 8, 32],
    [-64, -16, 64, 16],
    [-32, -32, 32, 32],
    [-16, -64, 16, 64],
]


@pytest.mark.parametrize(("offset", "shift"), [(0.0, 0), (0.5, 2)])
def test_anchors_equal_those_of_detectron2(offset, shift):
    (anchors,) = pyramid_anchors([(1, 2)], [4], [(32, 64)], (0.25, 1, 4), offset)
    expected = np.concatenate([FIRST, np.add(FIRST, [4, 0, 4, 0])]) + shift
    np.testing.assert_allclose(anchors, expected, atol=1e-5)


def test_a_pyramid_has_positions_outer_and_ratios_inner():
    levels = pyramid_anchors([(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)])
    assert sum(len(level) for level in levels) == 268569
    anchors = levels[1].reshape(100, 168, 3, 4)
    side = anchors[..., 2:] - anchors[..., :2]
    np.testing.assert_allclose(side[..., 1] / side[..., 0], np.broadcast_to([0.5, 1, 2], (100, 168, 3)), rtol=1e-4)
    np.testing.assert_allclose(side.prod(-1), 64.0**2, rtol=1e-4)
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2
    np.testing.assert_allclose(centre[7, 20, 2], [160, 56], atol=1e-4)
    assert levels[0].dtype == np.float32


def test_levels_must_agree_in_number():
    with pytest.raises(ModelError, match="2 shapes, 1 strides and 1 sizes"):
        pyramid_anchors([(1, 1), (1, 1)], [4], [32])
    with pytest.raises(ModelError, match="must be positive"):
        pyramid_anchors([(1, 1)], [4], [-32])
