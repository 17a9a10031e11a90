"""Panoptic segments: those of the authors' code of Panoptic-DeepLab, and panopticapi's merge in NumPy."""

from __future__ import annotations

from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.panoptic_reference import numbered
from segjax.postprocess.panoptic import find_centers, group_by_centers, merge_masks, nearest_center

RUN = np.load(Path(__file__).with_name("fixtures") / "panoptic_deeplab.npz")


@pytest.mark.parametrize("case", range(4))
def test_segments_are_the_references(case):
    logits, heatmap, offset, panoptic, things = (
        RUN[f"{case}/{name}"] for name in ("logits", "heatmap", "offset", "panoptic", "things")
    )
    sizes = jnp.asarray([logits.shape[:2]])
    options = {"stuff_area": int(RUN[f"{case}/stuff_area"]), "window": int(RUN[f"{case}/window"]), "centers": 60}
    outputs = (jnp.asarray(array, jnp.float32)[None] for array in (logits, heatmap, offset))
    found = jax.jit(lambda *args: group_by_centers(*args, tuple(things.tolist()), **options))(*outputs, sizes)
    np.testing.assert_array_equal(numbered(found, logits.shape[-1] - len(things)), panoptic)


def scene(size=(20, 24)):
    """Two things of class 1 on stuff 0 and 2; offsets to their centres, which the heatmap marks."""
    labels = np.zeros(size, int)
    labels[:, 16:] = 2
    labels[2:8, 2:8] = labels[10:17, 4:12] = 1
    heatmap, offset = np.zeros(size, np.float32), np.zeros((*size, 2), np.float32)
    for rows, columns in ((slice(2, 8), slice(2, 8)), (slice(10, 17), slice(4, 12))):
        row, column = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
        heatmap[row, column] = 0.8
        inside = np.stack(np.mgrid[rows, columns], axis=-1)
        offset[rows, columns] = (row, column) - inside
    logits = np.where(labels[..., None] == np.arange(3), 4.0, 0.0).astype(np.float32)
    return logits[None], heatmap[None], offset[None], labels


def grouped(logits, heatmap, offset, size=(20, 24), **options):
    options = {"centers": 5, "stuff_area": 10, **options}
    return group_by_centers(*(jnp.asarray(x) for x in (logits, heatmap, offset)), jnp.asarray([size]), (1,), **options)


def test_scores_are_heatmap_times_mean_probability_and_padding_is_void():
    logits, heatmap, offset, labels = scene()
    logits[..., 10:17, 4:6, :] = (0, 1, 0)  # a part of the second thing is less sure
    found = grouped(logits, heatmap, offset, size=(18, 22))
    chex.assert_shape(found["segment"], (1, 20, 24))
    assert found["segment_valid"][0].tolist() == [True, True, False, False, False, True, True]
    assert found["segment_class"][0, [0, 1, 5, 6]].tolist() == [1, 1, 0, 2]
    segment = np.asarray(found["segment"][0])
    assert not segment[18:].any()
    assert not segment[:, 22:].any()
    probability = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    expected = [0.8 * probability[labels == 1][:36, 1].mean(), 0.8 * probability[10:17, 4:12, 1].mean()]
    expected += [0, 0, 0, *(probability[:18, :22][labels[:18, :22] == k][:, k].mean() for k in (0, 2))]
    np.testing.assert_allclose(found["segment_score"][0], expected, rtol=1e-6)


def test_a_centre_in_the_padding_is_none():
    logits, heatmap, offset, _ = scene()
    heatmap[0, 19, 23] = 1.0
    assert grouped(logits, heatmap, offset, size=(19, 24))["segment_valid"][0, :5].sum() == 2
    assert grouped(logits, heatmap, offset)["segment_class"].shape == (1, 7)


def test_things_without_a_centre_and_little_stuff_are_void():
    logits, heatmap, offset, labels = scene()
    found = grouped(logits, 0 * heatmap, offset, stuff_area=200)
    assert found["segment_valid"][0].tolist() == [False] * 5 + [True, False]
    np.testing.assert_array_equal(np.asarray(found["segment"][0]) > 0, labels == 0)


def test_images_of_a_batch_do_not_meet():
    first, second = scene(), scene()
    second[1][:, 14:] = 0.0
    both = grouped(*(np.concatenate(pair) for pair in list(zip(first, second))[:3]), size=(20, 24))
    for image, alone in enumerate((first, second)):
        expected = grouped(*alone[:3])
        np.testing.assert_array_equal(both["segment"][image], expected["segment"][0])
        np.testing.assert_array_equal(both["segment_valid"][image], expected["segment_valid"][0])


def test_of_more_centres_than_places_the_largest_stay():
    heatmap = np.zeros((1, 9, 9), np.float32)
    heatmap[0, [0, 0, 4, 8], [0, 8, 4, 8]] = (0.3, 0.5, 0.4, 0.2)
    place, score, valid = find_centers(jnp.asarray(heatmap), 0.1, 3, 2)
    assert place[0].tolist() == [[0, 8], [4, 4]]
    np.testing.assert_allclose(score[0], (0.5, 0.4))
    assert valid.all()
    place, _, valid = find_centers(jnp.asarray(heatmap), 0.1, 3, 100)
    assert place.shape == (1, 100, 2)
    assert valid.sum() == 4


def test_offsets_that_are_no_numbers_point_nowhere():
    offset = jnp.full((1, 2, 3, 2), jnp.nan).at[0, 0].set(0.0)
    nearest = nearest_center(offset, jnp.asarray([[[0, 0], [0, 2]]]), jnp.asarray([[True, True]]))
    assert nearest[0].tolist() == [[1, 1, 2], [0, 0, 0]]


def combine(masks, classes, scores, valid, labels, things, score, overlap, stuff_area):
    """The loops of panopticapi's combine_semantic_and_instance_predictions.py: [(class, score, mask)]."""
    order = sorted(np.flatnonzero(valid & (scores >= score)).tolist(), key=lambda d: -scores[d])
    used, found = np.zeros(labels.shape, bool), []
    for d in order:
        area, both = masks[d].sum(), (masks[d] & used).sum()
        if area == 0 or both / area > overlap:
            continue
        found.append((int(classes[d]), float(scores[d]), masks[d] & ~used))
        used |= masks[d]
    for k in np.unique(labels):
        left = (labels == k) & ~used
        if k < 5 and k not in things and left.sum() >= stuff_area:
            found.append((int(k), 1.0, left))
    return found


merge = jax.jit(merge_masks, static_argnums=(6, 7), static_argnames=("overlap", "stuff_area"))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_merge_equals_panopticapi(seed):
    rng = np.random.default_rng(seed)
    height, width, count, things = 12, 14, 9, (1, 3)
    masks = np.zeros((2, count, height, width), bool)
    for mask in masks.reshape(-1, height, width):
        y, x, h, w = (*rng.integers(0, 10, 2), *rng.integers(0, 9, 2))
        mask[y : y + h, x : x + w] = True
    classes = rng.choice(things, (2, count))
    scores = rng.choice(np.float32([0.2, 0.5, 0.6, 0.7, 0.9]), (2, count))  # with ties
    valid = rng.random((2, count)) < 0.9
    labels = rng.choice([0, 1, 2, 4, 255], (2, height, 1)).repeat(width, axis=2)
    sizes = np.array([(height, width), (height - 2, width - 3)])
    found = merge(masks, classes, scores, valid, labels, sizes, things, 5, overlap=0.5, stuff_area=15)
    for b, (h, w) in enumerate(sizes):
        expected = combine(
            masks[b, :, :h, :w], classes[b], scores[b], valid[b], labels[b, :h, :w], things, 0.5, 0.5, 15
        )
        segment = np.asarray(found["segment"][b])
        assert not segment[h:].any()
        assert not segment[:, w:].any()
        kept = np.flatnonzero(found["segment_valid"][b])
        shown = [
            (int(found["segment_class"][b, p]), float(found["segment_score"][b, p]), segment[:h, :w] == p + 1)
            for p in kept
        ]
        assert set(np.unique(segment)) - {0} == set((kept + 1).tolist())

        def by_place(segments):
            return sorted((kind, value, mask.tobytes()) for kind, value, mask in segments)

        assert by_place(shown) == by_place(expected)


def test_merge_without_stuff_or_things():
    masks = np.ones((1, 1, 3, 3), bool)
    rest = (np.zeros((1, 1), int), np.ones((1, 1), np.float32), np.ones((1, 1), bool), np.zeros((1, 3, 3), int))
    found = merge(masks, *rest, np.array([[3, 3]]), (0, 1), 2)
    assert found["segment_class"].shape == (1, 1)
    assert (np.asarray(found["segment"]) == 1).all()
