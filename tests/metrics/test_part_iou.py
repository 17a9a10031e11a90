"""IoU of parts against loops over shapes in float64."""

from __future__ import annotations

import chex
import jax
import numpy as np

from segjax.metrics.part_iou import PartIoU

METRIC = PartIoU(parts=((0, 1, 2, 3), (4, 5), (6,), (7, 8, 9)))  # no shape is of the last category
POINTS = 40

update = jax.jit(PartIoU.update, static_argnums=0)


def shapes(seed: int, count: int):
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 3, count).astype(np.int32)
    part = np.array([rng.choice(METRIC.parts[c][: rng.integers(1, 4)], POINTS) for c in category], np.int32)
    label = np.where(rng.random(part.shape) < 0.7, part, rng.integers(0, 10, part.shape)).astype(np.int32)
    part[rng.random(part.shape) < 0.1] = 255
    batch = {"part": part, "category": category, "point_valid": rng.random(part.shape) < 0.9}
    return {"label": label}, batch | {"valid": rng.random(count) < 0.8}


def by_loops(predictions, batch) -> list[list[float]]:
    """The IoU of each shape, listed by category."""
    found: list[list[float]] = [[] for _ in METRIC.parts]
    for b in np.flatnonzero(batch["valid"]):
        category = batch["category"][b]
        keep = batch["point_valid"][b] & (batch["part"][b] != 255)
        true, guess = batch["part"][b][keep], predictions["label"][b][keep]
        ious = []
        for part in METRIC.parts[category]:
            either = ((true == part) | (guess == part)).sum()
            ious.append(((true == part) & (guess == part)).sum() / either if either else 1.0)
        found[category].append(float(np.mean(ious)))
    return found


def test_shapes_score_as_in_loops():
    predictions, batch = shapes(0, 60)
    found = by_loops(predictions, batch)
    result = METRIC.result(METRIC.merge(METRIC.init(), update(METRIC, predictions, batch)))
    per_category = [np.mean(ious) if ious else np.nan for ious in found]
    np.testing.assert_allclose(result["per_category_miou"], per_category, rtol=0, atol=1e-12)
    assert np.isnan(per_category[-1])
    np.testing.assert_allclose(result["category_miou"], np.nanmean(per_category), rtol=0, atol=1e-12)
    np.testing.assert_allclose(result["instance_miou"], np.mean(np.concatenate(found)), rtol=0, atol=1e-12)


def test_by_hand():
    """Part 0 half found, part 1 taken for it, parts 2 and 3 in neither: (2/4 + 0 + 1 + 1) / 4 of one shape."""
    batch = {
        "part": np.array([[0, 0, 1, 1, 255]]),
        "category": np.zeros(1, np.int32),
        "point_valid": np.ones((1, 5), bool),
        "valid": np.ones(1, bool),
    }
    result = METRIC.result(update(METRIC, {"label": np.array([[0, 0, 0, 0, 1]])}, batch))
    assert result["instance_miou"] == result["category_miou"] == 2.5 / 4


def test_batches_and_their_order_change_nothing():
    parts = [shapes(seed, 5) for seed in range(3)]
    a, b, c = (update(METRIC, *part) for part in parts)
    whole = update(METRIC, *jax.tree.map(lambda *x: np.concatenate(x), *parts))
    expected = METRIC.merge(METRIC.init(), whole)
    chex.assert_trees_all_equal(METRIC.merge(METRIC.merge(c, a), b), expected)
    chex.assert_trees_all_equal(METRIC.merge(c, METRIC.merge(b, a)), expected)


def test_without_shapes_no_score_exists():
    result = METRIC.result(METRIC.init())
    assert all(np.isnan(value).all() for value in result.values())
