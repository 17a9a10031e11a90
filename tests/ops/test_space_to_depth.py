"""Pixels to channels and back, against PyTorch."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.space_to_depth import depth_to_space, space_to_depth


def test_depth_to_space_places_phases():
    x = jnp.arange(12).reshape(1, 1, 2, 6)
    y = depth_to_space(x, (1, 3))
    np.testing.assert_array_equal(y[0, 0, :, 0], [0, 2, 4, 6, 8, 10])
    torch = pytest.importorskip("torch")
    shuffled = torch.pixel_shuffle(torch.arange(2 * 3 * 4 * 8).reshape(2, 8, 3, 4), 2).permute(0, 2, 3, 1)
    # PyTorch orders the channels (C, row phase, column phase).
    ours = jnp.arange(2 * 3 * 4 * 8).reshape(2, 2, 2, 2, 3, 4).transpose(0, 4, 5, 2, 3, 1).reshape(2, 3, 4, 8)
    np.testing.assert_array_equal(depth_to_space(ours, 2), shuffled.numpy())


def test_space_to_depth_is_the_inverse_and_fills_with_zeros():
    x = jnp.arange(1.0, 2 * 5 * 7 * 3 + 1).reshape(2, 5, 7, 3)
    folded = space_to_depth(x, (2, 3))
    assert folded.shape == (2, 3, 3, 18)
    back = depth_to_space(folded, (2, 3))
    np.testing.assert_array_equal(back[:, :5, :7], x)
    assert not back[:, 5:].any()
    assert not back[:, :, 7:].any()
