"""Pasting against detectron2's formula: pixel centres into the box, PyTorch's grid_sample."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.paste import paste_masks

BOXES = np.float32(
    [[3.2, 2.1, 20.7, 17.9], [0, 0, 30, 24], [-8, -5, 9.5, 11], [25, 20, 60, 50], [5, 5, 6, 6], [-20, -20, -5, -5]]
)


@pytest.mark.parametrize("side", [5, 28])
def test_paste_equals_grid_sample(side, jit_once):
    torch = pytest.importorskip("torch")
    masks = np.random.default_rng(0).uniform(size=(len(BOXES), side, side)).astype(np.float32)
    x0, y0, x1, y1 = torch.tensor(BOXES)[:, :, None].unbind(1)
    gx = (torch.arange(30) + 0.5 - x0) / (x1 - x0) * 2 - 1
    gy = (torch.arange(24) + 0.5 - y0) / (y1 - y0) * 2 - 1
    grid = torch.stack([gx[:, None, :].expand(-1, 24, -1), gy[:, :, None].expand(-1, -1, 30)], -1)
    expected = torch.nn.functional.grid_sample(torch.tensor(masks)[:, None], grid, align_corners=False)[:, 0].numpy()
    run = jit_once(lambda m, b: paste_masks(m, b, (24, 30)))
    np.testing.assert_allclose(run(masks, BOXES), expected, atol=2e-5)
    np.testing.assert_allclose(run(masks[::-1], BOXES[::-1]), expected[::-1], atol=2e-5)
    decided = np.abs(expected - 0.5) > 1e-4
    pasted = paste_masks(masks, BOXES, (24, 30), threshold=0.5)
    assert pasted.dtype == bool
    np.testing.assert_array_equal(np.asarray(pasted)[decided], (expected >= 0.5)[decided])


def test_a_full_mask_fills_its_box_and_an_empty_box_pastes_nothing():
    boxes = jnp.array([[2.0, 1, 6, 4], [3, 3, 3, 3], [5, 5, 2, 2], [np.nan] * 4])
    pasted = np.asarray(paste_masks(jnp.ones((4, 28, 28)), boxes, (6, 8), threshold=0.5))
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(pasted[0], expected)
    assert not pasted[1:].any()


def test_a_batch_and_float64():
    with jax.enable_x64(True):
        masks = np.random.default_rng(0).uniform(size=(2, len(BOXES), 7, 7))
        boxes = np.stack([BOXES, BOXES[::-1]]).astype(np.float64)
        both = jax.vmap(lambda m, b: paste_masks(m, b, (24, 30)))(masks, boxes)
        assert both.dtype == np.float64
        np.testing.assert_allclose(both[1], paste_masks(masks[1], boxes[1], (24, 30)), atol=1e-12)
