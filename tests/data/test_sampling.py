"""Order and windows of the training stream: fair, and the same under every numpy."""

from __future__ import annotations

import numpy as np
import pytest

from segjax.data.sampling import epoch_order, window_corner


def test_orders_are_permutations_that_differ():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in (0, 1, 2**63) for epoch in range(4)}
    assert len(orders) == 12
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_every_sample_comes_at_every_place_as_often():
    """A chi-squared test over 8 places and 8 samples, 49 degrees of freedom: 0.001 of fair orders exceed 85.4."""
    count = np.zeros((8, 8))
    for epoch in range(2000):
        count[np.arange(8), epoch_order(8, 7, epoch)] += 1
    assert ((count - 250) ** 2 / 250).sum() < 85.4


@pytest.mark.parametrize(("size", "window", "corners"), [((5, 6), (3, 4), 9), ((5, 3), (3, 4), 3), ((2, 2), (3, 4), 1)])
def test_windows_reach_every_corner_and_no_other(size, window, corners):
    found = {window_corner(size, window, 3, index) for index in range(300)}
    assert len(found) == corners
    for top, left in found:
        assert 0 <= top <= max(0, size[0] - window[0])
        assert 0 <= left <= max(0, size[1] - window[1])


def test_the_stream_does_not_change():
    """A run is resumed with the samples it would have seen, whatever was upgraded in between."""
    assert epoch_order(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert [window_corner((360, 480), (200, 200), 1, index) for index in range(3)] == [(19, 276), (61, 218), (145, 55)]
