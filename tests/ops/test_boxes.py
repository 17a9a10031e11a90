"""Boxes against torchvision's committed answers, and against definitions."""

from __future__ import annotations

import math
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops import boxes as ops

SAVED = np.load(Path(__file__).parent / "fixtures" / "boxes.npz")


def test_pairs_equal_torchvision():
    a, b = SAVED["a"], SAVED["b"]
    np.testing.assert_allclose(ops.pairwise_iou(a, b), SAVED["iou"], atol=1e-6)
    np.testing.assert_allclose(ops.pairwise_generalised_iou(a, b), SAVED["giou"], atol=1e-6)


def test_known_overlaps():
    a, b = jnp.array([[0.0, 0, 4, 4]]), jnp.array([[2.0, 0, 6, 4], [4, 0, 8, 4], [1, 1, 2, 2], [0, 0, 4, 4]])
    np.testing.assert_allclose(ops.pairwise_iou(a, b)[0], [1 / 3, 0, 1 / 16, 1], rtol=1e-6)
    np.testing.assert_allclose(ops.pairwise_intersection_over_area(b, a)[:, 0], [0.5, 0, 1, 1], rtol=1e-6)
    # Apart by one box's width: IoU 0, and a third of the hull is empty.
    far = jnp.array([8.0, 0, 12, 4])
    np.testing.assert_allclose(ops.generalised_iou(a[0], far), -1 / 3, rtol=1e-6)


def test_empty_and_swapped_boxes_have_no_overlap_and_finite_gradients():
    empty = jnp.array([[1.0, 1, 1, 1], [3, 3, 3, 5], [5, 5, 2, 2], [0, 0, 0, 0]])
    assert not np.any(ops.pairwise_iou(empty, empty))
    np.testing.assert_array_equal(ops.area(empty), 0)
    for measure in (ops.pairwise_iou, ops.pairwise_generalised_iou, ops.pairwise_intersection_over_area):
        gradient = jax.grad(lambda a, f=measure: f(a, empty).sum())(empty)
        chex.assert_tree_all_finite(gradient)


def test_generalised_iou_has_the_gradient_of_float64_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        a, b = (np.concatenate([low, low + rng.uniform(2, 6, (5, 2))], 1) for low in rng.uniform(0, 6, (2, 5, 2)))

        def total(a):
            return ops.generalised_iou(a, b).sum()

        gradient = jax.grad(total)(a)
        step = 1e-6 * np.eye(20).reshape(20, 5, 4)
        expected = [(total(a + s) - total(a - s)) / 2e-6 for s in step]
        assert gradient.dtype == np.float64
        np.testing.assert_allclose(gradient.ravel(), expected, atol=1e-7)


def test_clip_takes_static_and_traced_sizes():
    boxes = jnp.array([[-3.0, -2, 5, 9], [4, 5, 20, 30], [30, 30, 40, 40]])
    expected = [[0, 0, 5, 6], [4, 5, 8, 6], [8, 6, 8, 6]]
    np.testing.assert_array_equal(ops.clip(boxes, (6, 8)), expected)
    np.testing.assert_array_equal(jax.jit(ops.clip)(boxes, jnp.array([6, 8])), expected)


def test_centre_form_returns():
    boxes = SAVED["a"]
    np.testing.assert_allclose(ops.to_centre(np.float32([[1, 2, 5, 10]])), [[3, 6, 4, 8]])
    np.testing.assert_allclose(ops.from_centre(ops.to_centre(boxes)), boxes, atol=1e-5)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_coder_equals_its_formula_and_returns(weights):
    anchors, boxes = np.float64(SAVED["b"]), np.float64(SAVED["a"][:6])
    sides = [(b[:, 2:] - b[:, :2]) for b in (anchors, boxes)]
    centres = [(b[:, 2:] + b[:, :2]) / 2 for b in (anchors, boxes)]
    expected = np.concatenate([(centres[1] - centres[0]) / sides[0], np.log(sides[1] / sides[0])], 1) * weights
    deltas = ops.encode(boxes, anchors, weights)
    np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ops.decode(deltas, anchors, weights), boxes, rtol=1e-4, atol=1e-4)


def test_decode_caps_growth_only_and_is_float32():
    anchor = jnp.array([[0.0, 0, 16, 16]])
    boxes = ops.decode(jnp.array([[0, 0, 50.0, -50.0]], jnp.bfloat16), anchor.astype(jnp.bfloat16))
    assert boxes.dtype == jnp.float32
    np.testing.assert_allclose(ops.to_centre(boxes)[0], [8, 8, 1000, 0], rtol=1e-5, atol=1e-5)
    assert pytest.approx(4.135, abs=1e-3) == ops.MAX_LOG_RATIO == math.log(62.5)


def test_class_specific_deltas_broadcast():
    anchors = SAVED["a"]
    deltas = jnp.zeros((7, 3, 4)).at[:, 1, 0].set(1.0)
    boxes = ops.decode(deltas, anchors[:, None])
    np.testing.assert_allclose(boxes[:, 0], anchors, rtol=1e-5)
    np.testing.assert_allclose(boxes[:, 1, 0], anchors[:, 2], rtol=1e-4)


def test_padding_encodes_to_finite_deltas():
    deltas = ops.encode(jnp.zeros((2, 4)), jnp.array([[0.0, 0, 0, 0], [3, 3, 9, 9]]))
    chex.assert_tree_all_finite(deltas)


def brute_force_extents(instance, slots):
    boxes, pixels = np.zeros((slots, 4)), np.zeros(slots, int)
    for slot in range(slots):
        y, x, _ = np.nonzero(instance == slot + 1)
        pixels[slot] = len(y)
        if len(y):
            boxes[slot] = x.min(), y.min(), x.max() + 1, y.max() + 1
    return boxes, pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_boxes_of_layers_equal_brute_force_in_a_batch_without_retracing(dtype, jit_once):
    rng = np.random.default_rng(0)
    instance = (rng.integers(0, 9, (3, 11, 14, 2)) * (rng.uniform(size=(3, 11, 14, 2)) < 0.05)).astype(dtype)
    instance[0, 0, 0, 0] = 40  # beyond the slots
    instance[1] = 0
    run = jit_once(jax.vmap(lambda i: ops.boxes_of_layers(i, 7)))
    for batch in (instance, instance[::-1]):
        boxes, pixels = run(batch)
        for i in range(3):
            expected = brute_force_extents(batch[i], 7)
            np.testing.assert_array_equal(boxes[i], expected[0])
            np.testing.assert_array_equal(pixels[i], expected[1])


def test_boxes_of_layers_refuses_an_image():
    with pytest.raises(ModelError, match=r"integers \[H, W, L\]"):
        ops.boxes_of_layers(jnp.zeros((4, 4, 1)), 3)
