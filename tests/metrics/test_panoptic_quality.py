"""Panoptic quality against published cases and against sets of pixels in float64."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_sets import shared

from segjax.metrics.panoptic_quality import PanopticQuality

K, SLOTS, SEGMENTS = 5, 6, 7
METRIC = PanopticQuality(K, things=(0, 2, 3))

update = jax.jit(PanopticQuality.update, static_argnums=0)


def by_sets(metric, predictions, batch) -> dict[str, np.ndarray]:
    """tp, fp, fn and sum of IoU by class, segment by segment, after panopticapi's evaluation.py."""
    classes = metric.num_classes
    counts = {key: np.zeros(classes) for key in ("tp", "fp", "fn", "iou")}
    for b in np.flatnonzero(batch["valid"]):
        height, width = batch["size"][b]
        label, layer = batch["label"][b, :height, :width], batch["instance"][b, :height, :width, 0]
        guess = predictions["segment"][b, :height, :width]
        true, found = [], []
        void = np.ones(label.shape, bool)
        for k in np.flatnonzero(batch["instance_valid"][b]):
            true.append((batch["instance_class"][b, k], layer == k + 1, batch["instance_crowd"][b, k]))
        for k in set(range(classes)) - set(metric.things):
            true.append((k, (layer == 0) & (label == k), False))
        true = [segment for segment in true if segment[1].any()]
        for _, mask, _ in true:
            void &= ~mask
        for p in np.flatnonzero(predictions["segment_valid"][b]):
            if (guess == p + 1).any() and 0 <= predictions["segment_class"][b, p] < classes:
                found.append((predictions["segment_class"][b, p], guess == p + 1))
        matched_true, matched_guess = set(), set()
        for i, (k, mask, crowd) in enumerate(true):
            for j, (c, other) in enumerate(found):
                if k != c or crowd:
                    continue
                both = int((mask & other).sum())
                iou = both / (int(mask.sum()) + int(other.sum()) - both - int((other & void).sum()))
                if iou > 0.5:
                    counts["tp"][k] += 1
                    counts["iou"][k] += iou
                    matched_true.add(i)
                    matched_guess.add(j)
        last_crowd = {k: mask for k, mask, crowd in true if crowd}
        for i, (k, _, crowd) in enumerate(true):
            counts["fn"][k] += i not in matched_true and not crowd
        for j, (c, other) in enumerate(found):
            excused = int((other & void).sum())
            if c in last_crowd:
                excused += int((other & last_crowd[c]).sum())
            counts["fp"][c] += j not in matched_guess and not excused / other.sum() > 0.5
    return counts


def random_case(seed: int):
    """Maps of a few rectangles, predictions that are the truth with parts moved; everything beyond `size` is noise."""
    rng = np.random.default_rng(seed)
    images, height, width = 2, 12, 14
    label = rng.choice([0, 1, 2, 4, 255, 200], (images, height, 1)).repeat(width, axis=2)
    layer, segment = np.zeros((2, images, height, width), np.int32)
    batch = {
        "instance_class": rng.choice([0, 2, 3], (images, SLOTS)).astype(np.int32),
        "instance_valid": rng.random((images, SLOTS)) < 0.8,
        "instance_crowd": rng.random((images, SLOTS)) < 0.3,
        "valid": np.array([True, seed % 4 != 0]),
        "size": np.array([(height, width), (height - 3, width - 4)], np.int32),
    }
    guess_class = rng.integers(-1, K + 1, (images, SEGMENTS)).astype(np.int32)
    for b in range(images):
        for k in range(SLOTS):
            y, x, h, w = (*rng.integers(0, 9, 2), *rng.integers(1, 8, 2))
            layer[b, y : y + h, x : x + w] = k + 1
            dy, dx = rng.integers(0, 2, 2)
            segment[b, y + dy : y + h, x + dx : x + w] = k + 1
            guess_class[b, k] = batch["instance_class"][b, k] if rng.random() < 0.8 else guess_class[b, k]
        free = (segment[b] == 0) & (label[b] == rng.choice([1, 4]))
        segment[b][free & (rng.random(free.shape) < 0.9)] = SEGMENTS
        guess_class[b, -1] = rng.choice([1, 4])
    batch["label"] = label.astype(np.uint8)
    batch["instance"] = np.stack([layer, rng.integers(0, 3, layer.shape)], axis=-1).astype(np.uint8)
    return {
        "segment": segment,
        "segment_class": guess_class,
        "segment_valid": rng.random((images, SEGMENTS)) < 0.9,
    }, batch


def test_random_maps_are_counted_as_sets_of_pixels():
    seen = {key: 0.0 for key in ("tp", "fp", "fn")}
    total, expected = METRIC.init(), {key: np.zeros(K) for key in ("tp", "fp", "fn", "iou")}
    for seed in range(200):
        predictions, batch = random_case(seed)
        counts = by_sets(METRIC, predictions, batch)
        state = update(METRIC, predictions, batch)
        for key in seen:
            np.testing.assert_array_equal(state[key], counts[key], err_msg=f"seed {seed}, {key}")
            seen[key] += counts[key].sum()
        total = METRIC.merge(total, state)
        expected = {key: expected[key] + counts[key] for key in expected}
    assert min(seen.values()) > 50
    result = METRIC.result(total)
    pq = expected["iou"] / (expected["tp"] + expected["fp"] / 2 + expected["fn"] / 2)
    sq = expected["iou"] / np.maximum(expected["tp"], 1)
    np.testing.assert_allclose(result["per_class_pq"], pq, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["per_class_sq"], sq, rtol=0, atol=1e-12)
    np.testing.assert_allclose([result["pq"], result["sq"]], [pq.mean(), sq.mean()], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["pq_things"], pq[[0, 2, 3]].mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["pq_stuff"], pq[[1, 4]].mean(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.multiply(result["per_class_sq"], result["per_class_rq"]), pq, rtol=0, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.permutations(range(4)))
def test_neither_batches_nor_the_order_of_merging_change_the_state(seed: int, order):
    cases = [random_case(seed + k) for k in range(4)]
    states = [update(METRIC, *case) for case in cases]
    expected = METRIC.init()
    for state in states:
        expected = METRIC.merge(expected, state)
    a, b, c, d = (states[k] for k in order)
    chex.assert_trees_all_equal(METRIC.merge(METRIC.merge(a, b), METRIC.merge(c, d)), expected)
    whole = jax.tree.map(lambda *x: np.concatenate(x), *cases)
    chex.assert_trees_all_equal(METRIC.merge(METRIC.init(), update(METRIC, *whole)), expected)


def test_by_hand():
    """Of three instances two are found, with IoU 1 and 3/4; the third is missed, and what lies on it is wrong."""
    label = np.full((1, 4, 8), 255, np.uint8)
    layer = np.zeros((1, 4, 8, 1), np.uint8)
    segment = np.zeros((1, 4, 8), np.int32)
    for k in range(3):
        layer[0, :, 2 * k : 2 * k + 2, 0] = k + 1
    segment[0, :, 0:2] = 1  # IoU 1
    segment[0, :3, 2:4] = 2  # IoU 6 / 8
    segment[0, :1, 4:6] = 3  # IoU 1 / 4
    batch = {
        "label": label,
        "instance": layer,
        "instance_class": np.zeros((1, 3), np.int32),
        "instance_valid": np.ones((1, 3), bool),
        "instance_crowd": np.zeros((1, 3), bool),
        "size": np.array([[4, 8]], np.int32),
        "valid": np.ones(1, bool),
    }
    predictions = {
        "segment": segment,
        "segment_class": np.zeros((1, 3), np.int32),
        "segment_valid": np.ones((1, 3), bool),
    }
    metric = PanopticQuality(2, things=(0,))
    result = metric.result(metric.merge(metric.init(), update(metric, predictions, batch)))
    assert result["pq"] == result["pq_things"] == pytest.approx(1.75 / 3)
    assert result["sq"] == pytest.approx(1.75 / 2)
    assert result["rq"] == pytest.approx(2 / 3)
    assert np.isnan(result["pq_stuff"])
    assert np.isnan(result["per_class_pq"][1])
    assert np.isnan(metric.result(metric.init())["pq"])


COLOURS = {(0, 0, 0): 0, (0, 0, 255): 1, (255, 0, 0): 2, (0, 255, 0): 3, (255, 0, 255): 4, (0, 255, 255): 5}
COLOURS |= {(255, 255, 0): 6}
TRUE = {  # file, {grey value of the true map: class}; class 0 is void
    "bird": ("bird_gt.png", {92: 5, 176: 3, 255: 4}),
    "cat": ("cat_gt.png", {0: 0, 255: 6}),
    "team": (
        "team_gt_instance.png",
        {0: 0, 47: 1, 97: 1, 133: 1, 150: 1, 174: 1, 198: 2, 215: 1, 244: 1, 255: 1},
    ),
}


def deeplab2_case(name: str):
    """A test image of google-research/deeplab2, evaluation/testdata; every segment is an instance here.

    Which grey value and colour is which class, and that 0 is void, says its evaluation/panoptic_quality_test.py."""
    folder = shared("fixtures") / "panoptic_metric"
    guess = np.asarray(Image.open(folder / f"{name}_pred_instance.png").convert("L"))
    true = np.asarray(Image.open(folder / TRUE[name][0]).convert("L"))
    colours = np.asarray(Image.open(folder / f"{name}_pred_class.png").convert("RGB"))
    guess_class = np.zeros(true.shape, int)
    for colour, k in COLOURS.items():
        guess_class[(colours == colour).all(axis=-1)] = k
    values = [value for value, k in TRUE[name][1].items() if k]
    layer = np.select([true == value for value in values], range(1, len(values) + 1), 0)
    pairs, numbers = np.unique(guess_class * 256 + guess, return_inverse=True)
    height, width = true.shape
    canvas = ((0, 0), (0, 480 - height), (0, 640 - width))
    classes, segments = np.zeros((1, 12), np.int32), np.zeros((1, 24), np.int32)
    classes[0, : len(values)] = [TRUE[name][1][value] for value in values]
    segments[0, : len(pairs)] = pairs // 256
    batch = {
        "label": np.full((1, 480, 640), 255, np.uint8),
        "instance": np.pad(layer[None], canvas)[..., None].astype(np.uint8),
        "instance_class": classes,
        "instance_valid": np.arange(12)[None] < len(values),
        "instance_crowd": np.zeros((1, 12), bool),
        "size": np.array([[height, width]], np.int32),
        "valid": np.ones(1, bool),
    }
    predictions = {
        "segment": np.pad(numbers.reshape(1, height, width) + 1, canvas).astype(np.int32),
        "segment_class": segments,
        "segment_valid": (np.arange(24)[None] < len(pairs)) & (segments > 0),
    }
    return predictions, batch


def test_deeplab2s_cases():
    """Numbers of evaluation/panoptic_quality_test.py; each is a mean over the classes that occur."""
    metric = PanopticQuality(7, things=(1, 2, 3, 4, 5, 6))
    states = {name: update(metric, *deeplab2_case(name)) for name in TRUE}
    whole = metric.init()
    for state in states.values():
        whole = metric.merge(whole, state)
    cases = [
        (states["team"], (0.62156284, 0.64664984, 0.9666667), (4.0, 0.5, 0.0)),
        (whole, (0.76855499, 0.7769174, 0.98888892), (2.0, 1 / 6, 0.0)),
    ]
    for state, qualities, counts in cases:
        result = metric.result(metric.merge(metric.init(), state))
        np.testing.assert_allclose([result[key] for key in ("pq", "sq", "rq")], qualities, rtol=0, atol=2e-7)
        occurs = ~np.isnan(result["per_class_pq"])
        means = [np.asarray(state[key])[occurs].mean() for key in ("tp", "fn", "fp")]
        np.testing.assert_allclose(means, counts)
    for name, state in states.items():
        counts = by_sets(metric, *deeplab2_case(name))
        for key in ("tp", "fp", "fn"):
            np.testing.assert_array_equal(state[key], counts[key])
