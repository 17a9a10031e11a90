"""Average precision under jit against pycocotools: its recorded numbers, and live on random instances."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from coco_batches import NAMES, pycocotools_scores, single_images
from random_instances import CLASSES, SIZES, instances
from tiny_sets import shared

from segjax.core.errors import ConfigError
from segjax.data.id_layers import id_layers
from segjax.metrics.average_precision import AveragePrecision

MOST = 24  # detections of a random image, and instances of it
CANVAS = (max(size[0] for size in SIZES), max(size[1] for size in SIZES))


def variants(classes: int) -> dict[str, AveragePrecision]:
    """The metrics by the name of what pycocotools is given."""
    return {
        "segm": AveragePrecision(classes),
        "segm_with_bbox_left_in": AveragePrecision(classes, areas="box"),
        "bbox": AveragePrecision(classes, kind="box"),
    }


def updater(metrics: dict[str, AveragePrecision], **options):
    """The states of all metrics, under jit, traced once."""

    @chex.assert_max_traces(n=1)
    def update(predictions, batch):
        return {kind: metric.update(predictions, batch) for kind, metric in metrics.items()}

    return jax.jit(update, **options)


METRICS = variants(len(CLASSES))
update_one = updater(METRICS)


def scored(metrics, update, singles) -> dict[str, dict]:
    states = {kind: metric.init() for kind, metric in metrics.items()}
    for one in singles:
        for kind, state in jax.device_get(update(*one)).items():
            states[kind] = metrics[kind].merge(states[kind], state)
    return {kind: metrics[kind].result(state) for kind, state in states.items()}


def numbers(result: dict, kind: str) -> list[float]:
    return [result[f"{'box' if kind == 'bbox' else 'mask'}_{name}"] for name in NAMES]


def with_nan(values):
    """pycocotools writes -1 for a score that does not exist."""
    values = np.asarray(values, np.float64)
    return np.where(values == -1, np.nan, values)


def singles_of(content, detections):
    return list(single_images(content, detections, CANVAS, slots=MOST, layers=MOST, found=MOST))


def test_coco_tiny_scores_are_those_of_pycocotools():
    folder = shared("coco_tiny")
    content, detections, expected = (
        json.loads((folder / name).read_text())
        for name in ("instances_val.json", "detections_val.json", "expected_val.json")
    )
    metrics = variants(80)
    # The suite compiles without optimisations, which here costs a minute of running.
    update = updater(
        metrics, compiler_options={"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    )
    results = scored(metrics, update, single_images(content, detections, (640, 640), 48, 4, 48))
    for kind, values in expected["results"].items():
        np.testing.assert_allclose(numbers(results[kind], kind), list(values.values()), rtol=0, atol=1e-9)


def test_recorded_scores_of_pycocotools():
    record = json.loads((Path(__file__).parent / "fixtures" / "average_precision.json").read_text())
    results = scored(METRICS, update_one, singles_of(record["truth"], record["detections"]))
    for kind, values in record["expected"].items():
        np.testing.assert_allclose(numbers(results[kind], kind), with_nan(values), rtol=0, atol=1e-9)
    assert np.isnan(results["segm"]["per_class_mask_ap"][-1])  # a class without truth


@pytest.mark.parametrize("seed", range(8))
def test_random_instances_score_as_in_pycocotools(seed: int):
    pytest.importorskip("pycocotools.mask")
    content, detections = instances(seed, images=9, most=MOST)
    results = scored(METRICS, update_one, singles_of(content, detections))
    for kind in METRICS:
        values, precision = pycocotools_scores(content, detections, kind)
        np.testing.assert_allclose(numbers(results[kind], kind), with_nan(values), rtol=0, atol=1e-9)
        name = "box" if kind == "bbox" else "mask"
        precision = with_nan(precision[..., 0, -1])  # all areas, 100 detections: [T, R, K]
        known = precision[:, :, ~np.isnan(precision[0, 0])]
        np.testing.assert_allclose(results[kind][f"per_class_{name}_ap"], precision.mean(axis=(0, 1)), atol=1e-9)
        for place, percent in ((0, 50), (5, 75)):
            curve = results[kind][f"{name}_precision{percent}"]
            np.testing.assert_allclose(curve, known[place].mean(axis=1), rtol=0, atol=1e-9)


def joined(singles, invalid: int = 0):
    """One batch of single images; the last ones are padding, whose arrays hold anything."""
    predictions, batch = (jax.tree.map(lambda *x: np.concatenate(x), *parts) for parts in zip(*singles))
    if invalid:
        batch["valid"][-invalid:] = False
    return predictions, batch


def test_batches_their_order_and_padding_change_nothing():
    content, detections = instances(11, images=6, most=MOST)
    singles = singles_of(content, detections)
    metric = METRICS["segm"]
    update = jax.jit(metric.update)
    a, b, c = (update(*joined(singles[start : start + 2] + singles[:1], invalid=1)) for start in (0, 2, 4))
    expected = metric.result(metric.merge(metric.merge(metric.merge(metric.init(), a), b), c))
    assert expected["mask_ap"] > 0
    for x, y, z in itertools.permutations((a, b, c)):
        assert_same(metric.result(metric.merge(x, metric.merge(y, z))), expected)
        assert_same(metric.result(metric.merge(metric.merge(x, y), z)), expected)
    alone = [update_one(*one)["segm"] for one in reversed(singles)]
    state = metric.init()
    for one in alone:
        state = metric.merge(state, one)
    assert_same(metric.result(state), expected)
    assert state["valid"].all()
    assert sum(x[0].nbytes for key, x in state.items() if key != "truths") == 22


def test_slots_that_are_not_valid_change_nothing():
    """Slots without a truth, detections that are not valid, and masks beyond the image's size may hold anything."""
    content, detections = instances(5, images=3, most=MOST)
    rng = np.random.default_rng(0)
    for predictions, batch in singles_of(content, detections):
        expected = jax.device_get(update_one(predictions, batch))
        empty, unused = ~batch["instance_valid"], ~predictions["valid"]
        changed = {**batch, "instance_class": np.where(empty, 1, batch["instance_class"])}
        changed["instance_area"] = np.where(empty, 50, batch["instance_area"])
        changed["instance_box"] = np.where(empty[..., None], np.float32([0, 0, 90, 90]), batch["instance_box"])
        guess = {**predictions, "class": np.where(unused, 1, predictions["class"])}
        guess["score"] = np.where(unused, np.float32(2), predictions["score"])
        guess["mask"] = predictions["mask"].copy()
        height, width = batch["size"][0]
        guess["mask"][:, :, height:] = rng.random(guess["mask"][:, :, height:].shape) < 0.5
        guess["mask"][:, :, :, width:] = True
        for kind, state in jax.device_get(update_one(guess, changed)).items():
            chex.assert_trees_all_equal(
                *(METRICS[kind].merge(METRICS[kind].init(), s) for s in (state, expected[kind]))
            )


def test_bands_of_rows_add_up(monkeypatch):
    """Overlaps that are counted a few rows at a time, the last band overlapping the one before, are the same."""
    content, detections = instances(2, images=2, most=MOST)
    one = singles_of(content, detections)[1]
    expected = jax.device_get(update_one(*one)["segm"])
    monkeypatch.setattr("segjax.metrics.instance_matching._CELLS", 7 * 2 * MOST * CANVAS[1])
    chex.assert_trees_all_equal(jax.device_get(jax.jit(METRICS["segm"].update)(*one)), expected)


def test_a_hundred_detections_of_an_image_and_class_count():
    """130 detections of two classes, 106 and 24: the best 100 of the one and all of the other."""
    detections = 130
    predictions = {
        "box": np.tile(np.float32([0, 0, 4, 4]), (1, detections, 1)),
        "class": np.where(np.arange(detections) % 13 < 3, 1, 0)[None].astype(np.int32),
        "score": np.linspace(1, 0, detections, dtype=np.float32)[None],
        "valid": np.ones((1, detections), bool),
    }
    predictions["class"][0, -27:] = 0
    batch = {
        "instance_class": np.zeros((1, 1), np.int32),
        "instance_valid": np.ones((1, 1), bool),
        "instance_crowd": np.zeros((1, 1), bool),
        "instance_area": np.full((1, 1), 16, np.float32),
        "instance_box": np.float32([[[0, 0, 4, 4]]]),
        "valid": np.ones(1, bool),
        "sample": np.zeros(1, np.int32),
    }
    metric = METRICS["bbox"]
    state = metric.merge(metric.init(), jax.jit(metric.update)(predictions, batch))
    count = np.bincount(predictions["class"][0])
    assert count.tolist() == [106, 24]
    assert np.bincount(state["class"]).tolist() == [100, 24]
    assert state["score"][state["class"] == 0].min() == np.sort(predictions["score"][predictions["class"] == 0])[6]
    assert metric.result(state)["box_ap"] == pytest.approx(1.0)


def in_a_line(true: list[tuple[int, int]], found: list[tuple[int, int]]) -> dict:
    """The scores of masks in an image of 1 x 32 pixels, given as (first column, last column + 1), best first."""
    columns = np.arange(32)
    masks = [[(columns >= start) & (columns < stop) for start, stop in spans] for spans in (true, found)]
    batch = {
        "instance": id_layers([mask[None] for mask in masks[0]])[None],
        "instance_class": np.zeros((1, len(true)), np.int32),
        "instance_valid": np.ones((1, len(true)), bool),
        "instance_crowd": np.zeros((1, len(true)), bool),
        "instance_area": np.array([[mask.sum() for mask in masks[0]]], np.float32),
        "size": np.array([[1, 32]], np.int32),
        "valid": np.ones(1, bool),
        "sample": np.zeros(1, np.int32),
    }
    predictions = {
        "mask": np.array(masks[1])[None, :, None],
        "class": np.zeros((1, len(found)), np.int32),
        "score": np.linspace(1, 0, len(found), dtype=np.float32)[None],
        "valid": np.ones((1, len(found)), bool),
    }
    metric = AveragePrecision(1)
    return metric.result(one_class_update(metric, predictions, batch))


one_class_update = jax.jit(AveragePrecision.update, static_argnums=0)


@pytest.mark.parametrize("hits", range(10, 20))
def test_iou_at_a_threshold_matches(hits: int):
    """A mask of 20 pixels of which 10 .. 19 are true: an IoU of exactly a threshold reaches it."""
    assert in_a_line([(0, hits)], [(0, 20)])["mask_ap"] == pytest.approx((hits - 9) / 10)


def test_of_equal_ious_the_later_instance_is_taken():
    """The first detection has IoU 19/21 with both instances. It takes the second one and leaves the first to the second
    detection, whose IoU with the other is 18/22. At 0.95 only the second matches, and half of all are recalled."""
    result = in_a_line([(0, 20), (2, 22)], [(1, 21), (0, 20)])
    assert result["mask_ap"] == pytest.approx((9 + 0.5 * 51 / 101) / 10)
    assert in_a_line([(2, 22), (0, 20)], [(1, 21), (0, 20)])["mask_ap"] < result["mask_ap"]


def test_without_images_no_score_exists():
    result = AveragePrecision(2).result(AveragePrecision(2).init())
    assert all(np.isnan(value).all() for value in result.values())


@pytest.mark.parametrize(
    ("arguments", "message"), [({"kind": "segm"}, "segm"), ({"kind": "box", "areas": "mask"}, "area")]
)
def test_unknown_kinds_are_refused_in_one_line(arguments, message: str):
    with pytest.raises(ConfigError, match=message):
        AveragePrecision(2, **arguments)


def assert_same(result: dict, expected: dict) -> None:
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(result[key], value)
