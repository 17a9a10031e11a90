"""RoIAlign against torchvision's committed answers: values and gradients, one map, a pyramid, mask targets."""

from __future__ import annotations

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.roi_align import assign_levels, mask_targets, pyramid_roi_align, roi_align

SAVED = np.load(Path(__file__).parent / "fixtures" / "roi_align.npz")


def on_one_map(features, boxes, size, sampling, aligned):
    return roi_align(features, boxes, size, 0.25, sampling, aligned)


def on_a_pyramid(features, boxes, size, sampling, aligned):
    """The same map as the second level of three, the others of other sizes and values."""
    others = [jnp.full((1, rows, 5, features.shape[-1]), 100, features.dtype) for rows in (7, 3)]
    levels = jnp.ones((1, len(boxes)), int)
    pyramid = [others[0], features[None], others[1]]
    return pyramid_roi_align(pyramid, boxes[None], levels, size, (2, 4, 8), sampling, aligned)[0]


@pytest.mark.parametrize("align", [on_one_map, on_a_pyramid])
@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (2, 2)])
def test_roi_align_equals_torchvision(align, sampling, aligned, size, value_and_pullback):
    name = f"{size[0]}{size[1]}_{int(aligned)}_{sampling}"
    cotangent = SAVED[f"cotangent{size[0]}{size[1]}"]
    value, (gradient,) = value_and_pullback(
        lambda features: align(features, SAVED["boxes"], size, sampling, aligned), cotangent, SAVED["features"]
    )
    np.testing.assert_allclose(value, SAVED[f"value{name}"], atol=1e-5)
    np.testing.assert_allclose(gradient, SAVED[f"gradient{name}"], atol=1e-5)


def test_pyramid_equals_torchvision_with_its_levels_and_needs_no_retracing(jit_once):
    levels = [SAVED[f"level{i}"] for i in range(3)]

    def pool(levels, boxes):
        chosen = assign_levels(boxes, 2, 4, canonical_size=24, canonical_level=3)
        return pyramid_roi_align(levels, boxes, chosen, 3, (4, 8, 16), 2, False)

    run = jit_once(pool)
    boxes = SAVED["pyramid_boxes"]
    np.testing.assert_allclose(run(levels, boxes), SAVED["pyramid_value"], atol=1e-5)
    assert len(np.unique(assign_levels(boxes, 2, 4, 24, 3))) == 3
    np.testing.assert_allclose(run(levels, boxes[:, ::-1]), SAVED["pyramid_value"][:, ::-1], atol=1e-5)


def test_one_map_under_vmap_and_in_float64_agrees_with_the_pyramid():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        features, boxes = rng.normal(size=(2, 9, 13, 2)), np.stack([SAVED["boxes"], SAVED["boxes"] + 3.3])
        boxes = boxes.astype(np.float64)
        dense = jax.vmap(lambda f, b: roi_align(f, b, 3, 0.25))(features, boxes)
        gathered = pyramid_roi_align([features], boxes, jnp.zeros((2, 8), int), 3, (4,))
        assert dense.dtype == gathered.dtype == np.float64
        np.testing.assert_allclose(dense, gathered, atol=1e-12)


def test_levels_are_those_of_the_paper():
    side = np.array([0.0, 1, 56, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1, 5000])
    boxes = np.stack([side * 0 + 3, side * 0 + 5, 3 + side * 2, 5 + side / 2], 1)  # by area: twice as wide as high
    np.testing.assert_array_equal(assign_levels(boxes), [0, 0, 0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("sampling", [0, 2])
def test_boxes_that_are_not_finite_or_huge_end_and_hurt_no_other(sampling):
    features = [jnp.asarray(SAVED["features"])[None]]
    boxes = np.stack([SAVED["boxes"]] * 5)
    boxes[:, 0] = [[np.nan, 0, 9, 9], [0, 0, np.inf, 9], [-np.inf, 0, 9, 9], [0, 0, 1e12, 1e12], [9, 9, 3, 3]]
    expected = SAVED[f"value34_1_{sampling}"][1:]
    run = jax.jit(lambda b: pyramid_roi_align(features, b[None], jnp.zeros((1, 8), int), (3, 4), (4,), sampling)[0])
    dense = jax.jit(lambda b: roi_align(features[0][0], b, (3, 4), 0.25, sampling))
    for case in boxes:
        for value in (run(case), dense(case)):
            np.testing.assert_allclose(value[1:], expected, atol=1e-5)
            chex.assert_tree_all_finite(value)


def test_bfloat16_keeps_its_dtype_and_boxes_get_no_gradient():
    features = jnp.asarray(SAVED["features"], jnp.bfloat16)
    expected = SAVED["value34_1_0"]
    for align in (on_one_map, on_a_pyramid):
        value, pullback = jax.vjp(lambda f, b, a=align: a(f, b, (3, 4), 0, True), features, SAVED["boxes"])
        assert value.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(value), expected, atol=0.05)
        gradient, of_boxes = pullback(jnp.ones_like(value))
        assert gradient.dtype == jnp.bfloat16
        assert not np.any(of_boxes)


def test_mask_targets_equal_torchvision():
    run = jax.jit(lambda instance, slots, boxes: mask_targets(instance, slots, boxes, 7))
    targets = np.asarray(run(SAVED["instance"], SAVED["slots"], SAVED["mask_boxes"]))
    expected = SAVED["mask_value"]
    decided = np.abs(expected - 0.5) > 1e-5
    assert decided.mean() > 0.95
    assert 0.2 < expected[decided].mean() < 0.8
    np.testing.assert_array_equal(targets[decided], expected[decided] >= 0.5)
    # The slot's own mask, where two cover each other; and in a batch.
    assert np.any(targets[1] != run(SAVED["instance"], SAVED["slots"] * 0, SAVED["mask_boxes"])[1])
    batch = jax.vmap(mask_targets, in_axes=(0, 0, 0, None))(
        *(np.stack([SAVED[name]] * 2) for name in ("instance", "slots", "mask_boxes")), 7
    )
    np.testing.assert_array_equal(batch[1], targets)


def test_what_does_not_fit_is_refused():
    features, boxes = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 3, 4))
    with pytest.raises(ModelError, match="map over batches"):
        roi_align(features, boxes[0])
    with pytest.raises(ModelError, match="2 levels and 1 strides"):
        pyramid_roi_align([features, features], boxes, jnp.zeros((1, 3), int), strides=(4,))
    with pytest.raises(ModelError, match="one batch, width and dtype"):
        pyramid_roi_align([features, features[..., :1]], boxes, jnp.zeros((1, 3), int), strides=(4, 8))
    with pytest.raises(ModelError, match="sampling=-1"):
        roi_align(features[0], boxes[0], sampling=-1)
