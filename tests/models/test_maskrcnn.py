"""Mask R-CNN: detectron2's counts and numbers; one trace, gradients everywhere, images apart, rows on one device."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.core.config import from_dict
from segjax.core.errors import ConfigError, ModelError
from segjax.core.paths import named_leaves
from segjax.core.registry import create_model
from segjax.core.schema import (
    IMAGE,
    INSTANCE,
    INSTANCE_BOX,
    INSTANCE_CLASS,
    INSTANCE_CROWD,
    INSTANCE_VALID,
    MASK_LOGITS,
    ROI_BOX,
    ROI_ROLE,
    SIZE,
    VALID,
)
from segjax.models.base import init_shapes
from segjax.ops.boxes import boxes_of_layers
from segjax.tasks.instance.task import InstanceTask
from segjax.training.program import make_program

FIXTURE = Path(__file__).parent / "fixtures" / "maskrcnn.npz"
BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
B, H, W, K, N = 2, 64, 96, 3, 5
TASK = InstanceTask(tuple(range(K)), ("a", "b", "c"), N, rpn_samples=1024)


def sizes_of(name, classes):
    params = init_shapes(create_model(name, classes))["params"]
    return {path: math.prod(leaf.shape) for path, leaf in named_leaves(params).items()}


@pytest.mark.parametrize(
    ("variant", "classes", "trained", "frozen"),
    [("resnet50", 80, 44_120_816, 222_400), ("resnet50", 8, 43_733_312, 222_400)],
)
def test_parameters_are_those_of_detectron2(variant, classes, trained, frozen):
    sizes = sizes_of(f"maskrcnn/{variant}", classes)
    affine = sum(size for path, size in sizes.items() if "/norm/" in path)
    still = sum(
        size for path, size in sizes.items() if path.startswith(("encoder/stem", "encoder/stage1")) and "conv/" in path
    )
    assert (affine, still) == (53_120, frozen)
    assert sum(sizes.values()) - affine - still == trained


def test_parts_have_the_parameters_of_detectron2():
    parts = {}
    for path, size in sizes_of("maskrcnn/resnet101", 80).items():
        parts[path.split("/")[0]] = parts.get(path.split("/")[0], 0) + size
    assert parts == {
        "encoder": 42_500_160,
        "pyramid": 65_792 + 131_328 + 262_400 + 524_544 + 4 * 590_080,
        "rpn": 590_080 + 771 + 3_084,
        "box_head": 12_846_080 + 1_049_600 + 83_025 + 328_000,
        "mask_head": 4 * 590_080 + 262_400 + 20_560,
    }


def test_proposals_logits_losses_gradient_and_masks_are_those_of_detectron2(monkeypatch):
    """On random weights by the map: see the benchmark, which recorded the fixture and says what is compared."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    exact = importlib.import_module("layer_exact_instance")
    run = np.load(FIXTURE)
    errors = exact.compare(run, "test")
    sys.modules.pop("layer_exact_instance")
    assert run["count"].min() > 0
    assert exact.above_bars(errors) == [], errors


def make_batch(seed):
    """Rectangles on noise, from 12 pixels to the whole image, the last slot of each image empty and one a crowd."""
    random = np.random.default_rng(seed)
    instance = np.zeros((B, H, W, 1), np.uint8)
    for layer in instance[..., 0]:
        for slot, side in enumerate((60, 40, 22, 12)):
            y, x = random.integers(0, H - side), random.integers(0, W - side)
            layer[y : y + side, x : x + side] = slot + 1
    boxes, pixels = jax.vmap(lambda layers: boxes_of_layers(layers, N))(instance)
    return {
        IMAGE: random.normal(size=(B, H, W, 3)).astype(np.float32) + instance,
        INSTANCE: instance,
        INSTANCE_BOX: np.asarray(boxes),
        INSTANCE_CLASS: random.integers(0, K, (B, N)).astype(np.int32),
        INSTANCE_VALID: np.asarray(pixels) > 0,
        INSTANCE_CROWD: np.arange(N)[None].repeat(B, 0) == 3,
        VALID: np.ones(B, bool),
    }


class Compiled:
    """The `test` variant, its training loss and its evaluation compiled once, their traces counted."""

    def __init__(self):
        self.model = create_model("maskrcnn/test", K, samples=128)
        self.variables = jax.jit(self.model.init)(jax.random.key(0), jnp.zeros((1, H, W, 3)))
        self.traces = {"train": 0, "evaluate": 0}
        self.train, self.evaluate = jax.jit(self._train), jax.jit(self._evaluate)

    def _train(self, variables, batch, key):
        self.traces["train"] += 1
        rest = {name: value for name, value in variables.items() if name != "params"}

        def loss(params):
            args, kwargs = TASK.inputs(batch, train=True)
            outputs, state = self.model.apply(
                {"params": params, **rest}, *args, **kwargs, train=True, rngs={"sample": key}, mutable=["batch_stats"]
            )
            weights = {**TASK.weights(batch), **TASK.counts(outputs, batch)}
            value, parts = TASK.loss(outputs, batch, weights, key)
            return value, (outputs, state, parts, weights)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    def _evaluate(self, variables, batch):
        self.traces["evaluate"] += 1
        args, kwargs = TASK.inputs(batch, train=False)
        outputs = self.model.apply(variables, *args, **kwargs)
        return outputs, TASK.predict(outputs, batch)


@pytest.fixture(scope="module")
def compiled():
    return Compiled()


def test_training_is_finite_traced_once_and_reaches_every_parameter(compiled):
    outcomes = [compiled.train(compiled.variables, make_batch(seed), jax.random.key(seed)) for seed in range(3)]
    assert compiled.traces["train"] == 1
    chex.assert_tree_all_finite(outcomes)
    largest = jax.tree.map(
        lambda *leaves: max(float(jnp.abs(leaf).max()) for leaf in leaves), *(g for _, g in outcomes)
    )
    assert [path for path, value in named_leaves(largest).items() if not value > 1e-8] == []
    (value, (outputs, state, parts, weights)), _ = outcomes[0]
    np.testing.assert_allclose(value, sum(part for name, part in parts.items() if name != "loss"), rtol=1e-6)
    assert 0 < weights["foreground"] <= weights["regions"] <= B * 128
    role = np.asarray(outputs[ROI_ROLE])
    assert weights["foreground"] == (role == 1).sum()
    assert (role[:, 32:] < 1).all()
    assert outputs[MASK_LOGITS].shape == (B, 32, 28, 28, K)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state["batch_stats"], compiled.variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


def test_loss_and_gradient_do_not_depend_on_the_order_of_slots(compiled):
    batch, key = make_batch(0), jax.random.key(1)
    order = np.random.default_rng(0).permutation(N)
    moved = {name: batch[name][:, order] for name in (INSTANCE_BOX, INSTANCE_CLASS, INSTANCE_VALID, INSTANCE_CROWD)}
    moved[INSTANCE] = np.concatenate([[0], np.argsort(order) + 1]).astype(np.uint8)[batch[INSTANCE]]
    (value, _), gradient = compiled.train(compiled.variables, batch, key)
    (other, _), other_gradient = compiled.train(compiled.variables, {**batch, **moved}, key)
    np.testing.assert_allclose(other, value, rtol=1e-6)
    chex.assert_trees_all_close(other_gradient, gradient, rtol=1e-3, atol=1e-5)


def test_crowds_and_images_that_are_not_valid_do_not_count(compiled):
    batch, key = make_batch(0), jax.random.key(1)
    crowd = batch[INSTANCE_CROWD]
    gone = {INSTANCE_VALID: batch[INSTANCE_VALID] & ~crowd, INSTANCE_CROWD: np.zeros_like(crowd)}
    whole = compiled.train(compiled.variables, batch, key)
    without = compiled.train(compiled.variables, {**batch, **gone}, key)
    chex.assert_trees_all_equal(whole[0][1][2], without[0][1][2])
    chex.assert_trees_all_equal(whole[1], without[1])
    first = {**batch, VALID: np.array([True, False])}
    other = {**first, INSTANCE_CLASS: batch[INSTANCE_CLASS] * np.array([[1], [0]], np.int32)}
    other[INSTANCE_VALID] = batch[INSTANCE_VALID] & np.array([[True], [False]])
    one, two = (compiled.train(compiled.variables, b, key)[0] for b in (first, other))
    assert one[1][3]["images"] == 1
    chex.assert_trees_all_equal(one[1][2], two[1][2])


def test_an_image_without_instances_trains_as_background(compiled):
    batch = make_batch(0)
    batch[INSTANCE_VALID] = np.zeros((B, N), bool)
    ((_, (_, _, parts, weights)), gradient) = compiled.train(compiled.variables, batch, jax.random.key(0))
    chex.assert_tree_all_finite((parts, gradient))
    assert weights["foreground"] == 0
    assert weights["regions"] > 0
    assert parts["loss/mask"] == parts["loss/box"] == parts["loss/rpn_box"] == 0
    assert parts["loss/class"] > 0
    assert parts["loss/rpn_class"] > 0


def test_evaluation_sees_one_image_at_a_time_and_ends_with_it(compiled):
    images = make_batch(3)[IMAGE]
    sizes = np.array([(H, W), (40, 72)], np.int32)
    images[1, 40:], images[1, :, 72:] = 0, 0
    variables = jax.tree.map(lambda x: x, compiled.variables)
    variables["params"]["box_head"]["classes"]["kernel"] *= 30  # so that scores differ
    outputs, found = compiled.evaluate(variables, {IMAGE: images, SIZE: sizes})
    turned, found_turned = compiled.evaluate(variables, {IMAGE: images[::-1].copy(), SIZE: sizes[::-1].copy()})
    assert compiled.traces["evaluate"] == 1
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[::-1], found_turned), found, atol=1e-4)
    assert found["valid"].all(axis=1)[0]
    there = outputs[ROI_ROLE][1] >= 0
    boxes = np.concatenate([outputs[ROI_BOX][1][there], found["box"][1]])
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 72
    assert boxes[:, 3].max() <= 40
    assert not found["mask"][1, :, 40:].any()
    assert not found["mask"][1, :, :, 72:].any()
    assert turned[MASK_LOGITS].shape == (B, 10, 28, 28, K)


def test_bfloat16_gives_float32_heads_and_parameters():
    model = create_model("maskrcnn/test", K, dtype=jnp.bfloat16)
    batch = make_batch(0)
    args, kwargs = TASK.inputs(batch, train=True)

    def run(key):
        variables = model.init(key, *args)
        rngs = {"sample": key}
        return variables, model.apply(variables, *args, **kwargs, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    variables, outputs = jax.eval_shape(run, jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    floating = {leaf.dtype for leaf in jax.tree.leaves(outputs) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert floating == {jnp.dtype(jnp.float32)}


def test_init_makes_the_same_variables_for_training():
    model = create_model("maskrcnn/test", K)
    shapes = jax.eval_shape(lambda key: model.init(key, jnp.zeros((1, H, W, 3)), train=True), jax.random.key(0))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, init_shapes(model))


def test_training_without_targets_is_one_line_of_error(compiled):
    with pytest.raises(ModelError, match="give it targets"):
        compiled.model.apply(
            compiled.variables, jnp.zeros((1, H, W, 3)), train=True, rngs={"sample": jax.random.key(0)}
        )


def test_rows_over_devices_are_refused_in_one_line(compiled):
    config = from_dict({"model": {"name": "maskrcnn/test"}, "parallel": {"spatial": 2}})
    with pytest.raises(ConfigError, match=r"config\.parallel\.spatial: 2, but maskrcnn/test takes images whole"):
        make_program(
            config, model=compiled.model, task=TASK, transform=None, variables=compiled.variables, mesh=None, steps=1
        )


@pytest.mark.slow
def test_it_learns_two_images_by_heart():
    """The task's loss through plain optax, then its predictions and metric: mask AP above 0.9."""
    model = create_model("maskrcnn/test", K, features=32, box_features=128, samples=64)
    batch = {**make_batch(7), INSTANCE_CROWD: np.zeros((B, N), bool)}
    colours = np.random.default_rng(0).normal(size=(K + 1, 3)).astype(np.float32) * 2
    slots = batch[INSTANCE][..., 0].astype(int)
    classes = np.take_along_axis(np.pad(batch[INSTANCE_CLASS] + 1, [(0, 0), (1, 0)]), slots.reshape(B, -1), axis=1)
    batch[IMAGE] = colours[classes].reshape(B, H, W, 3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, H, W, 3)))
    params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
    task = InstanceTask(TASK.things, TASK.classes, N)
    tx = optax.adam(optax.warmup_cosine_decay_schedule(0.0, 3e-3, 20, 300))

    @jax.jit
    def step(params, rest, opt, key):
        def loss(params):
            args, kwargs = task.inputs(batch, train=True)
            options = {"train": True, "rngs": {"sample": key}, "mutable": ["batch_stats"]}
            outputs, state = model.apply({"params": params, **rest}, *args, **kwargs, **options)
            weights = {**task.weights(batch), **task.counts(outputs, batch)}
            return task.loss(outputs, batch, weights, key)[0], state

        gradient, state = jax.grad(loss, has_aux=True)(params)
        updates, opt = tx.update(gradient, opt, params)
        return optax.apply_updates(params, updates), state, opt

    opt = tx.init(params)
    for number in range(300):
        params, rest, opt = step(params, rest, opt, jax.random.key(number))
    truth = {**batch, SIZE: np.full((B, 2), (H, W), np.int32), "sample": np.arange(B, dtype=np.int32)}
    truth["instance_area"] = np.stack([np.bincount(ids.ravel(), minlength=N + 1)[1:] for ids in slots]).astype(
        np.float32
    )

    @jax.jit
    def scored(params, rest):
        args, kwargs = task.inputs(truth, train=False)
        outputs = model.apply({"params": params, **rest}, *args, **kwargs)
        return task.metric_update(task.predict(outputs, truth), truth)

    found = task.metric_result(jax.device_get(scored(params, rest)))
    assert found["mask_ap"] > 0.9, found
