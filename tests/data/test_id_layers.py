"""Id layers hold every mask exactly, in as many layers as the overlaps ask for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segjax.data.id_layers import id_layers


def rectangles(corners, size):
    masks = np.zeros((len(corners), *size), bool)
    for mask, (top, left, height, width) in zip(masks, corners):
        mask[top : top + height, left : left + width] = True
    return masks


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), max_size=12))
def test_every_mask_is_in_the_layers_exactly(corners):
    masks = rectangles(corners, (10, 12))
    layers = id_layers(masks)
    assert layers.dtype == np.uint8
    for k, mask in enumerate(masks):
        held = layers == k + 1
        np.testing.assert_array_equal(held.any(axis=-1), mask)
        assert held.any(axis=(0, 1)).sum() == mask.any()  # in one layer, whole
    overlaps = [sum((mask & other).any() for other in masks) - 1 for mask in masks if mask.any()]
    most = int(masks.sum(axis=0).max(initial=0))
    assert max(1, most) <= layers.shape[-1] <= max(overlaps, default=0) + 1  # greedy colouring's bound


def test_the_most_overlapped_comes_first():
    """A bar over three separate squares, given last, takes the first layer; the squares share the second."""
    masks = rectangles([(0, 0, 3, 2), (0, 4, 3, 2), (0, 8, 3, 2), (1, 0, 1, 10)], (3, 10))
    layers = id_layers(masks)
    assert layers.shape == (3, 10, 2)
    assert set(np.unique(layers[..., 0])) == {0, 4}
    assert set(np.unique(layers[..., 1])) == {0, 1, 2, 3}


def test_without_instances_there_is_one_empty_layer():
    assert not id_layers([], (4, 5)).any()
    assert id_layers([], (4, 5)).shape == id_layers(np.zeros((0, 4, 5), bool)).shape == (4, 5, 1)


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_numbers_fit_their_type(count: int, dtype: type):
    masks = np.eye(count, dtype=bool).reshape(count, 1, count)
    layers = id_layers(list(masks))
    assert layers.dtype == dtype
    np.testing.assert_array_equal(layers[0, :, 0], np.arange(1, count + 1))
