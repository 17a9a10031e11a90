"""The panoptic task: the reference's targets and losses, parts of a batch, what must not matter, the whole chain."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from panoptic_scenes import INFO, batch_of, sample
from PIL import Image

from segjax.core.config import from_dict
from segjax.core.errors import ConfigError, DataError
from segjax.core.registry import create_model
from segjax.core.schema import IGNORE
from segjax.data.augment import normalize
from segjax.data.options import Augment
from segjax.ops.logits import Logits
from segjax.tasks import make_task, make_view
from segjax.tasks.panoptic.targets import centers_of_mass, heatmap, of_slots, offsets
from segjax.tasks.panoptic.task import PanopticTask, make
from segjax.tasks.panoptic.view import VIEW
from segjax.training.state import init_variables

RUN = np.load(Path(__file__).with_name("fixtures") / "panoptic_deeplab.npz")
REFERENCE = PanopticTask(4, (1, 3), max_instances=6, sigma=2.0, small_area=40)


def reference_batch(crowd: bool = False) -> dict:
    """The reference's scene; with `crowd` its last instance is one."""
    return REFERENCE.collate(
        {
            "label": RUN["label"],
            "instance": RUN["instance"][..., None],
            "instance_class": RUN["instance_class"],
            "instance_crowd": np.arange(4) == 3 if crowd else np.zeros(4, bool),
        }
    )


@pytest.mark.parametrize("crowd", [False, True])
def test_targets_are_the_references(crowd):
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], reference_batch(crowd))
    layer, present = batch["instance"][..., 0], batch["instance_valid"] & ~batch["instance_crowd"]
    found = centers_of_mass(layer, 6)
    centers, own = REFERENCE._regions(batch)
    prefix = "without/" if crowd else ""
    expected = {key: RUN[f"{prefix}{key}"] for key in ("center", "offset", "center_weights", "offset_weights")}
    np.testing.assert_allclose(
        heatmap(found.place, present & (found.area > 0), (24, 32), 2.0)[0], expected["center"], atol=1e-6
    )
    np.testing.assert_allclose(
        jnp.where(own[..., None], offsets(found.place, layer), 0)[0], expected["offset"], atol=1e-5
    )
    np.testing.assert_array_equal(centers[0], expected["center_weights"])
    np.testing.assert_array_equal(own[0], expected["offset_weights"])
    small = of_slots(layer, batch["instance_valid"] & (found.area < 40))
    if not crowd:
        np.testing.assert_array_equal(1 + 2 * small[0], RUN["semantic_weights"])


def test_pixels_of_no_slot_have_nothing():
    layer = jnp.asarray([[[0, 1, 2, 3]]], jnp.uint8)
    values = jnp.asarray([[[5.0, 6.0], [7.0, 8.0]]])
    assert of_slots(layer, values)[0, 0].tolist() == [[0, 0], [5, 6], [7, 8], [0, 0]]
    assert centers_of_mass(layer, 2).area[0].tolist() == [1, 1]


def test_losses_are_the_references():
    batch = jax.tree.map(lambda x: jnp.asarray(x)[None], reference_batch())
    outputs = {
        name: jnp.asarray(RUN[f"predicted/{name}"], jnp.float32)[None] for name in ("logits", "center", "offset")
    }
    total, parts = jax.jit(lambda o, b: REFERENCE.loss(as_logits(o), b, REFERENCE.weights(b)))(outputs, batch)
    for name in ("semantic", "center", "offset"):
        assert float(parts[f"loss/{name}"]) == pytest.approx(float(RUN[f"loss/{name}"]), rel=1e-6)
    whole = RUN["loss/semantic"] + 200 * RUN["loss/center"] + 0.01 * RUN["loss/offset"]
    assert float(total) == pytest.approx(float(whole), rel=1e-6)
    assert parts["loss"] == total


TASK = PanopticTask(INFO.num_classes, INFO.things, max_instances=60, sigma=2.0, small_area=100, stuff_area=1)
SIZE = (32, 48)


@pytest.fixture(scope="module")
def scenes() -> dict:
    """Six scenes: the fifth without a thing, of the fourth the first instance is a crowd, the last is padding."""
    samples = [sample(i, SIZE) for i in range(6)]
    samples[3]["instance_crowd"][0] = True
    things = samples[4]["instance"][..., 0] > 0
    samples[4] |= {
        "instance": np.zeros((*SIZE, 1), np.uint8),
        "instance_class": np.zeros(0, np.int32),
        "instance_crowd": np.zeros(0, bool),
        "label": np.where(things, 2, samples[4]["label"]).astype(np.uint8),
    }
    batch = batch_of(samples, TASK)
    batch["valid"][5] = False
    return batch


def as_logits(outputs: dict) -> dict:
    return {key: Logits(value, value.shape[1:3]) for key, value in outputs.items()}


def random_outputs(images: int, dtype=np.float64) -> dict:
    rng = np.random.default_rng(0)
    shapes = {"logits": INFO.num_classes, "center": 1, "offset": 2}
    return {key: rng.normal(size=(images, *SIZE, n)).astype(dtype) for key, n in shapes.items()}


def losses_of(batch, outputs, weights=None):
    """(loss, its gradient in the outputs), in float64."""
    with jax.enable_x64(True):
        weights = TASK.weights(batch) if weights is None else weights
        value, slope = jax.jit(jax.value_and_grad(lambda o, b: TASK.loss(as_logits(o), b, weights)[0]))(outputs, batch)
        return float(value), jax.tree.map(np.asarray, slope)


def part(tree, first, last):
    return jax.tree.map(lambda x: x[first:last], tree)


def test_shares_of_parts_add_up(scenes):
    outputs, weights = random_outputs(6), TASK.weights(scenes)
    whole, slope = losses_of(scenes, outputs, weights)
    found = [losses_of(part(scenes, i, i + 2), part(outputs, i, i + 2), weights) for i in (0, 2, 4)]
    assert sum(value for value, _ in found) == pytest.approx(whole, rel=1e-12)
    joined = jax.tree.map(lambda *x: np.concatenate(x), *[s for _, s in found])
    chex.assert_trees_all_close(joined, slope, rtol=1e-12)
    parts = [TASK.weights(part(scenes, i, i + 2)) for i in (0, 2, 4)]
    for name, value in weights.items():
        assert sum(float(one[name]) for one in parts) == float(value)


def test_order_of_slots_and_padded_slots_change_nothing(scenes):
    outputs = random_outputs(6)
    before = losses_of(scenes, outputs)
    order = np.random.default_rng(1).permutation(60)
    moved = {key: value[:, order] for key, value in scenes.items() if value.shape[1:] == (60,)}
    table = np.concatenate([[0], 1 + np.argsort(order)])
    moved["instance"] = table[scenes["instance"]].astype(np.uint8)
    more = {
        key: np.pad(value, ((0, 0), (0, 9)), constant_values=3)
        for key, value in scenes.items()
        if value.shape[1:] == (60,)
    }
    more |= {key: more[key] & (np.arange(69) < 60) for key in ("instance_valid", "instance_crowd")}
    for changed in (moved, more):
        after = losses_of({**scenes, **changed}, outputs)
        assert after[0] == pytest.approx(before[0], rel=1e-12)
        chex.assert_trees_all_close(after[1], before[1], rtol=1e-12)


def test_void_and_invalid_images_change_nothing(scenes):
    outputs, other = random_outputs(6), random_outputs(6)
    batch = {**scenes, "label": scenes["label"].copy(), "instance": scenes["instance"].copy()}
    batch["label"][:, :, 40:], batch["instance"][:, :, 40:] = IGNORE, 0
    for value in other.values():
        value[:, :, 40:], value[5] = np.nan, np.inf
    before, after = losses_of(batch, outputs), losses_of(batch, other)
    assert after[0] == before[0]
    chex.assert_trees_all_equal(after[1], before[1])
    assert all(not value[5].any() and not value[:, :, 40:].any() for value in after[1].values())


def test_crowds_and_images_without_things_teach_neither_centres_nor_offsets(scenes):
    _, slope = losses_of(scenes, random_outputs(6))
    crowd = scenes["instance"][3, ..., 0] == 1
    assert crowd.any()
    assert not slope["center"][3][crowd].any()
    assert not slope["offset"][3][crowd].any()
    assert slope["logits"][3][crowd].any()
    assert not slope["offset"][4].any()
    assert slope["center"][4].any()
    alone = part(scenes, 4, 5)
    value, _ = losses_of(alone, part(random_outputs(6), 4, 5))
    assert np.isfinite(value)


def truth_outputs(task, batch) -> dict:
    """What a perfect network returns."""
    layer = jnp.asarray(batch["instance"][..., 0])
    found = centers_of_mass(layer, task.max_instances)
    present = batch["instance_valid"] & ~batch["instance_crowd"]
    label = np.where(batch["label"] == IGNORE, 0, batch["label"])
    return {
        "logits": 20.0 * (label[..., None] == np.arange(task.num_classes)).astype(np.float32),
        "center": heatmap(found.place, present, layer.shape[1:], task.sigma)[..., None],
        "offset": offsets(found.place, layer),
    }


def test_the_truth_as_outputs_has_loss_zero_and_panoptic_quality_one():
    # Small Gaussians and windows, for centres of neighbours lie near each other.
    task = dataclasses.replace(TASK, sigma=0.3, peak_window=1, centers=60)
    samples = [sample(i, (96, 128)) for i in range(4)]
    for one in samples:
        # Things of the same centre cannot be told apart.
        one["instance"] = spread(one["instance"])
        one["label"] = np.where(
            (one["instance"][..., 0] == 0) & np.isin(one["label"], INFO.things), IGNORE, one["label"]
        )
    batch = batch_of(samples, task)
    outputs = truth_outputs(task, batch)
    value, parts = task.loss(as_logits(outputs), batch, task.weights(batch))
    assert float(value) < 1e-6, parts
    predictions = jax.jit(task.predict)(as_logits(outputs), batch)
    result = task.metric_result(jax.device_get(task.metric_update(predictions, batch)))
    counted = [x for x in result["per_class_pq"] if np.isfinite(x)]
    assert len(counted) > 6
    assert counted == [1.0] * len(counted)
    assert result["pq"] == result["sq"] == result["rq"] == result["miou"] == 1.0


def spread(instance: np.ndarray) -> np.ndarray:
    """The instances whose centre's pixel is no other's."""
    seen, kept = set(), instance.copy()
    for k in np.setdiff1d(np.unique(instance), 0):
        place = tuple(int(x.mean()) for x in np.nonzero(instance[..., 0] == k))
        if place in seen:
            kept[kept == k] = 0
        seen.add(place)
    return kept


def test_collate_pads_and_keeps_the_largest():
    task = dataclasses.replace(TASK, max_instances=2)
    instance = np.array([[1, 2, 2], [3, 3, 3]], np.uint16)[..., None]
    one = {
        "instance": instance,
        "instance_class": np.array([8, 9, 10]),
        "instance_crowd": np.array([True, True, False]),
    }
    found = task.collate(one)
    assert found["instance"].dtype == np.uint8
    assert found["instance"][..., 0].tolist() == [[0, 1, 1], [2, 2, 2]]
    assert found["instance_class"].tolist() == [9, 10]
    assert found["instance_crowd"].tolist() == [True, False]
    assert dataclasses.replace(TASK, max_instances=300).collate(one)["instance"].dtype == np.uint16
    fields = TASK.fields(INFO, SIZE, True)
    collated = TASK.collate(sample(0, SIZE))
    for key, field in fields.items():
        assert (collated[key].shape, collated[key].dtype) == (field.shape, field.dtype), key


def test_transform_moves_the_id_map_with_the_image():
    task = dataclasses.replace(TASK, augment=Augment(scale=(0.5, 2.0)))
    assert task.window((32, 48), None) == (64, 96)
    batch = batch_of([sample(0), sample(1)], task)
    moved = jax.jit(task.transform(INFO, SIZE))(jax.random.key(0), batch)
    chex.assert_shape(moved["instance"], (2, *SIZE, 1))
    for b in range(2):
        for k in np.setdiff1d(np.unique(moved["instance"][b]), 0):
            labels = moved["label"][b][moved["instance"][b, ..., 0] == k]
            assert (labels == batch["instance_class"][b, k - 1]).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": {"sigmas": 3}}, "Did you mean 'sigma'"),
        ({"loss": {"hard_share": 0}}, r"loss\.hard_share: 0"),
        ({"eval": {"peak_window": 4}}, r"eval\.peak_window: 4"),
        ({"eval": {"centers": 2.5}}, r"eval\.centers: 2\.5 is not a whole number"),
        ({"loss": {"sigma": 0}}, r"loss\.sigma: 0"),
        ({"eval": {"threshold": "a"}}, r"eval\.threshold: 'a' is not a number"),
        ({"loss": {"name": "dice"}}, r"config\.loss\.name"),
    ],
)
def test_what_a_config_cannot_say_is_one_line_of_error(given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make(from_dict({"task": "panoptic", **given}), INFO)
    assert "\n" not in str(caught.value)


def test_a_config_makes_the_task():
    task = make_task(from_dict({"task": "panoptic", "loss": {"sigma": 3}, "eval": {"stuff_area": 64}}), INFO)
    assert (task.sigma, task.stuff_area, task.things, task.max_instances) == (3, 64, (6, 8, 9, 10), 60)
    assert hash(task) == hash(dataclasses.replace(task))
    assert make_view("panoptic") is VIEW
    for info in (dataclasses.replace(INFO, things=()), dataclasses.replace(INFO, layers=2)):
        with pytest.raises(DataError, match="panoptic needs a class"):
            make(from_dict({"task": "panoptic"}), info)


def test_a_saved_prediction_is_cocos_panoptic_format(tmp_path):
    one = sample(2)
    truth = VIEW.truth(one, INFO)
    assert VIEW.prediction(
        {"segment": truth.segment, "segment_class": truth.classes, "segment_score": np.ones(99)}, (30, 40), INFO
    ).segment.shape == (30, 40)
    path = truth.save(tmp_path / "scene.png")
    ids = np.asarray(Image.open(path)).astype(int) @ (1, 256, 65536)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["file_name"] == "scene.png"
    assert [c["name"] for c in record["categories"] if c["isthing"]] == ["sign", "vehicle", "person", "cyclist"]
    found = {segment["id"]: segment for segment in record["segments_info"]}
    assert len(found) == len(record["segments_info"])
    assert set(found) == set(np.unique(ids)) - {0}
    np.testing.assert_array_equal(ids == 0, (one["label"] == IGNORE) & (one["instance"][..., 0] == 0))
    for number, segment in found.items():
        mask = ids == number
        assert segment["area"] == mask.sum()
        x, y, w, h = segment["bbox"]
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
        assert mask[y : y + h, [x, x + w - 1]].any(0).all()
        assert mask[[y, y + h - 1], x : x + w].any(1).all()
        assert segment["isthing"] == (segment["category_id"] in INFO.things)
        if not segment["isthing"]:
            np.testing.assert_array_equal(mask, one["label"] == segment["category_id"])
    assert sum(segment["isthing"] for segment in found.values()) == len(np.unique(one["instance"])) - 1


def test_pictures_show_image_truth_prediction_and_errors():
    one = sample(2)
    truth = VIEW.truth(one, INFO)
    worse = truth.without(one["instance"][..., 0] == 1)
    assert not (worse.segment == 1).any()
    pictures = VIEW.pictures(one["image"], truth, worse, INFO)
    assert [picture.pixels.shape for picture in pictures] == [(64, 96, 3)] * 4
    red = (pictures[3].pixels == (230, 57, 70)).all(-1)
    np.testing.assert_array_equal(red, one["instance"][..., 0] == 1)
    assert truth.overlay(one["image"]).shape == (64, 96, 3)
    np.testing.assert_array_equal(truth.overlay(one["image"], 0.0), one["image"])


def test_rows_split_over_devices_change_nothing():
    program = Path(__file__).with_name("panoptic_on_devices.py")
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    record = json.loads(ended.stdout)
    assert record.pop("segments") > 20
    assert max(record.values()) < 1e-12, record


@pytest.mark.slow
def test_four_scenes_are_learnt_by_heart():
    steps, size = 180, (64, 96)
    options = {"sigma": 2.0, "small_area": 100, "stuff_area": 20, "peak_window": 3}
    task = PanopticTask(INFO.num_classes, INFO.things, max_instances=60, **options)
    width = {"features": 32, "instance_features": 32, "head_features": 16, "context_features": 32}
    model = create_model("panopticdeeplab/test", INFO.num_classes, low_features=(16, 16, 8), **width)
    batch = batch_of([sample(i, size, zoom=2.5, least=40) for i in range(4)], task)
    batch["image"] = normalize(batch["image"], INFO.mean, INFO.std)
    batch, weights = jax.device_put(batch), task.weights(batch)
    variables = init_variables(model, 0, (*size, 3))
    params, statistics = variables["params"], variables["batch_stats"]
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    traces = []

    @jax.jit
    def step(params, statistics, opt):
        traces.append(None)

        def loss(params):
            given = {"params": params, "batch_stats": statistics}
            outputs, state = model.apply(given, batch["image"], train=True, mutable=["batch_stats"])
            return task.loss(outputs, batch, weights)[0], state["batch_stats"]

        slope, statistics_after = jax.grad(loss, has_aux=True)(params)
        updates, opt = tx.update(slope, opt)
        return optax.apply_updates(params, updates), statistics_after, opt

    opt = tx.init(params)
    for _ in range(steps):
        params, statistics, opt = step(params, statistics, opt)
    assert len(traces) == 1

    @jax.jit
    def score(variables):
        predictions = task.predict(model.apply(variables, batch["image"], train=False), batch)
        return task.metric_update(predictions, batch)

    result = task.metric_result(jax.device_get(score({"params": params, "batch_stats": statistics})))
    assert result["pq"] > 0.8, result
