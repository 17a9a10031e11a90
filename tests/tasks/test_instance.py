"""The instance task: slots, what a view leaves of them, and what must not matter to the loss."""

from __future__ import annotations

import dataclasses
from functools import partial

import chex
import jax
import numpy as np
import pytest

from segjax.core.config import from_dict
from segjax.core.errors import ConfigError
from segjax.core.schema import DatasetInfo
from segjax.data.id_layers import id_layers
from segjax.ops.boxes import boxes_of_layers
from segjax.tasks import make_task, make_view
from segjax.tasks.instance.task import InstanceTask

CLASSES = ("road", "car", "person")
INFO = DatasetInfo("toy", CLASSES, ((0, 0, 0), (0, 0, 200), (200, 0, 0)), things=(1, 2), layers=1, max_instances=4)
TASK = make_task(from_dict({"task": "instance"}), INFO)
SIDE, ANCHORS, REGIONS, MASKS = 32, 60, 8, 2


def sample(count: int, seed: int = 0) -> dict:
    """Squares of an image, one below the other."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, SIDE, SIDE), bool)
    for i in range(count):
        masks[i, 7 * i : 7 * i + 3 + i, 4 : 10 + i] = True
    return {
        "image": rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
        "instance": id_layers(masks, (SIDE, SIDE)),
        "instance_class": rng.integers(1, 3, count).astype(np.int32),
        "instance_crowd": np.zeros(count, bool),
        "instance_area": masks.sum((1, 2)).astype(np.float32),
        "instance_box": np.array([(4, 7 * i, 10 + i, 7 * i + 3 + i) for i in range(count)], np.float32).reshape(-1, 4),
    }


def batch_of(samples: list[dict]) -> dict:
    rows = [TASK.collate(one) for one in samples]
    batch = {key: np.stack([row[key] for row in rows]) for key in TASK.fields(INFO, (SIDE, SIDE), True)}
    boxes, _ = jax.vmap(partial(boxes_of_layers, slots=4))(batch["instance"])
    return {**batch, "instance_box": np.asarray(boxes), "valid": np.ones(len(rows), bool)}


def outputs_of(batch: dict, seed: int = 0) -> dict:
    """What a network could return, at random; every region matches a valid slot."""
    rng, count = np.random.default_rng(seed), len(batch["image"])
    corner = rng.uniform(0, SIDE - 12, (ANCHORS, 2))
    regions = np.sort(rng.uniform(0, SIDE, (count, REGIONS, 2, 2)), axis=2).reshape(count, REGIONS, 4)
    role = np.array([1] * MASKS + [0] * (REGIONS - MASKS - 1) + [-1], np.int8)
    normal = lambda *shape: rng.normal(size=(count, *shape)).astype(np.float32)  # noqa: E731
    return {
        "anchors": np.concatenate([corner, corner + rng.uniform(3, 12, (ANCHORS, 2))], axis=1).astype(np.float32),
        "rpn_logits": normal(ANCHORS),
        "rpn_deltas": normal(ANCHORS, 4),
        "roi_box": regions.astype(np.float32),
        "roi_role": np.where(batch["instance_valid"].any(1, keepdims=True), role, np.minimum(role, 0)),
        "roi_match": rng.integers(0, np.maximum(batch["instance_valid"].sum(1, keepdims=True), 1), (count, REGIONS)),
        "box_logits": normal(REGIONS, 3),
        "box_deltas": normal(REGIONS, 2, 4),
        "mask_logits": normal(MASKS, 28, 28, 2),
    }


@partial(jax.jit, static_argnums=2)
def loss_and_slope(outputs: dict, batch: dict, task: InstanceTask = TASK):
    whole = {key: value for key, value in outputs.items() if key.startswith(("rpn", "box", "mask"))}

    def loss(moved):
        given = {**outputs, **moved}
        weights = {**task.weights(batch), **task.counts(given, batch)}
        return task.loss(given, batch, weights, jax.random.key(0))

    return jax.value_and_grad(loss, has_aux=True)(whole)


def test_slots_are_padded_and_the_largest_kept(capsys):
    found = TASK.collate(sample(3))
    assert found["instance_valid"].tolist() == [True, True, True, False]
    assert found["instance_class"].max() <= 1, "places in `things`"
    small = dataclasses.replace(TASK, max_instances=2)
    cut = small.collate(sample(3))
    np.testing.assert_array_equal(cut["instance_area"], sample(3)["instance_area"][1:])
    np.testing.assert_array_equal((cut["instance"] > 0).sum(), sample(3)["instance_area"][1:].sum())
    assert "3 instances; the 2 largest are kept" in capsys.readouterr().out


def test_a_view_leaves_boxes_of_what_it_shows():
    task = make_task(from_dict({"task": "instance", "augment": {"flip": True}}), INFO)
    batch = batch_of([sample(3, seed) for seed in range(6)])
    size = np.full((6, 2), SIDE, np.int32)
    out = jax.jit(task.transform(INFO, (16, SIDE)))(jax.random.key(1), {**batch, "size": size})
    for image in range(6):
        for slot in range(4):
            rows, columns = np.nonzero((out["instance"][image] == slot + 1).any(-1))
            assert bool(out["instance_valid"][image, slot]) == (rows.size > 0)
            if rows.size:
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                np.testing.assert_array_equal(out["instance_box"][image, slot], box)


def test_the_order_of_slots_changes_nothing():
    batch = batch_of([sample(3), sample(2, 1)])
    outputs = outputs_of(batch)
    order = np.array([2, 3, 0, 1])  # new slot k holds what slot order[k] held
    place = np.argsort(order)
    moved = {key: batch[key][:, order] for key in batch if key.startswith("instance_")}
    layers = np.concatenate([[0], place + 1])[batch["instance"]].astype(np.uint8)
    other = {**outputs, "roi_match": place[outputs["roi_match"]]}
    found, expected = loss_and_slope(other, {**batch, **moved, "instance": layers}), loss_and_slope(outputs, batch)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_padded_images_and_slots_change_nothing():
    batch = batch_of([sample(3), sample(2, 1)])
    outputs = outputs_of(batch)
    (value, _), slope = loss_and_slope(outputs, batch)
    noise = {key: batch[key].copy() for key in ("instance_box", "instance_class")}
    for key in noise:
        noise[key][~batch["instance_valid"]] = 1
    (same, _), _ = loss_and_slope(outputs, {**batch, **noise})
    assert same == value
    halved = {**batch, "valid": np.array([True, False])}
    (_, parts), slope = loss_and_slope(outputs, halved)
    assert not any(np.asarray(part[1]).any() for part in slope.values())
    first = {key: value if key == "anchors" else value[:1] for key, value in outputs.items()}
    (_, alone), _ = loss_and_slope(first, {key: value[:1] for key, value in batch.items()})
    for name in ("loss/class", "loss/box", "loss/mask"):  # anchors are drawn by keys that follow the number of images
        assert float(parts[name]) == pytest.approx(float(alone[name]), rel=1e-6), name


def test_images_without_instances_train_and_crowds_do_not():
    batch = batch_of([sample(0), sample(0, 1)])
    (value, parts), slope = loss_and_slope(outputs_of(batch), batch)
    assert np.isfinite(value)
    assert parts["loss/rpn_class"] > 0
    assert parts["loss/mask"] == parts["loss/box"] == parts["loss/rpn_box"] == 0
    assert np.asarray(slope["rpn_logits"]).any()
    crowd = {**(full := batch_of([sample(3), sample(2, 1)])), "instance_crowd": np.ones((2, 4), bool)}
    outputs = outputs_of(full) | {"roi_role": np.zeros((2, REGIONS), np.int8)}
    assert loss_and_slope(outputs, crowd)[0][1]["loss/rpn_box"] == 0


def test_a_set_without_instances_is_refused():
    with pytest.raises(ConfigError, match="has no instances"):
        make_task(from_dict({"task": "instance"}), dataclasses.replace(INFO, things=()))


def test_a_saved_truth_is_cocos_results(tmp_path):
    import json

    from PIL import Image

    from segjax.core import rle

    view, one = make_view("instance"), sample(3)
    path = view.truth(one, INFO).save(tmp_path / "a.png")
    ids = np.asarray(Image.open(path))
    records = json.loads(path.with_suffix(".json").read_text())
    assert len(records) == 3
    for index, record in enumerate(records):
        mask = rle.decode(record["segmentation"]["counts"], tuple(record["segmentation"]["size"]))
        np.testing.assert_array_equal(mask, one["instance"][..., 0] == index + 1)
        np.testing.assert_array_equal(ids == index + 1, mask)
