"""The semantic task: shares that add up, metrics that merge, padding that does not count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ConfigError
from segjax.core.schema import AUX_LOGITS, BORDER_LOGITS, IGNORE, LABEL, LOGITS, SIZE, VALID
from segjax.losses import get_loss
from segjax.losses.border import border_loss
from segjax.metrics.boundary import boundary_counts, boundary_f1, diagonal_tolerance
from segjax.metrics.confusion import confusion
from segjax.ops.logits import Logits, upsampled
from segjax.tasks.semantic.task import SemanticTask

B, H, W, K = 6, 12, 16, 4
WEIGHTS = (0.5, 2.0, 1.0, 0.25)


def example(seed=0):
    """Outputs, a batch whose last image is padding, and predicted labels."""
    random = np.random.default_rng(seed)
    label = random.integers(0, K, (B, H // 4, W // 4)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    label[random.random((B, H, W)) < 0.2] = IGNORE
    pred = np.where(random.random((B, H, W)) < 0.7, label, random.integers(0, K, (B, H, W))).astype(np.uint8)
    pred[pred == IGNORE] = 0
    logits = [Logits(random.normal(size=(B, H, W, K)).astype(np.float32), (H, W)) for _ in range(3)]
    outputs = {LOGITS: logits[0], AUX_LOGITS: (logits[1], logits[2])}
    return outputs, {LABEL: label, VALID: np.arange(B) < B - 1}, pred


def part(tree, start, stop):
    return jax.tree.map(lambda x: x[start:stop], tree)


def test_loss_is_main_plus_weighted_auxiliary():
    outputs, batch, _ = example()
    task = SemanticTask(K, class_weights=WEIGHTS, label_smoothing=0.1, aux_weight=0.3)
    total, named = task.loss(outputs, batch, task.weights(batch))

    def reference(logits):
        valid = np.broadcast_to(batch[VALID][:, None, None], (B, H, W))
        values, weights = get_loss("cross_entropy")(
            logits, batch[LABEL], valid, class_weights=np.array(WEIGHTS), label_smoothing=0.1
        )
        return float(values.sum() / weights.sum())

    main, aux = reference(outputs[LOGITS].values), sum(reference(x.values) for x in outputs[AUX_LOGITS])
    assert float(named["loss/main"]) == pytest.approx(main, rel=1e-5)
    assert float(named["loss/aux"]) == pytest.approx(aux, rel=1e-5)
    assert float(total) == float(named["loss"]) == pytest.approx(main + 0.3 * aux, rel=1e-5)


def test_loss_without_auxiliary_outputs():
    outputs, batch, _ = example()
    task = SemanticTask(K)
    total, named = task.loss({LOGITS: outputs[LOGITS]}, batch, task.weights(batch))
    assert set(named) == {"loss", "loss/main"}
    assert total == named["loss/main"]


def test_border_loss_is_each_images_weighed_as_in_the_main_loss():
    outputs, batch, _ = example()
    outputs[BORDER_LOGITS] = Logits(outputs[LOGITS].values[..., :2], (H, W))
    valid = np.broadcast_to(batch[VALID][:, None, None], (B, H, W))
    border, _ = jax.jit(border_loss, static_argnums=3)(outputs[BORDER_LOGITS].values, batch[LABEL], valid, K)
    for name in ("cross_entropy", "dice"):
        task = SemanticTask(K, loss_name=name, class_weights=WEIGHTS, border_weight=0.1)
        other = SemanticTask(K, loss_name=name, class_weights=WEIGHTS)
        weights = task.weights(batch)
        without, parts = jax.jit(other.loss)(outputs, batch, weights)
        assert "loss/border" not in parts
        total, parts = jax.jit(task.loss)(outputs, batch, weights)
        known = (batch[LABEL] != IGNORE) & valid
        images = np.where(known, np.array(WEIGHTS)[np.where(known, batch[LABEL], 0)], 0).sum((1, 2))
        images = images if name == "cross_entropy" else known.any((1, 2))
        assert float(parts["loss/border"]) == pytest.approx(float((border * images).sum() / images.sum()), rel=1e-5)
        assert float(total) == pytest.approx(float(without + 0.1 * parts["loss/border"]), rel=1e-5)
        assert total == parts["loss"]


def test_a_border_weight_without_border_logits_is_one_line_of_error():
    outputs, batch, _ = example()
    task = SemanticTask(K, border_weight=0.1)
    with pytest.raises(ConfigError, match=r"border_weight is 0\.1, but the network has no border_logits") as caught:
        task.loss(outputs, batch, task.weights(batch))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["cross_entropy", "dice"])
def test_shares_of_micro_batches_add_up(name):
    outputs, batch, _ = example()
    outputs[BORDER_LOGITS] = Logits(outputs[LOGITS].values[..., :2], (H, W))
    task = SemanticTask(K, loss_name=name, class_weights=WEIGHTS, border_weight=0.1)
    weights = task.weights(batch)

    @jax.jit
    def gradient(part_outputs, part_batch):
        return jax.value_and_grad(lambda o: task.loss(o, part_batch, weights)[0])(part_outputs)

    whole, slope = gradient(outputs, batch)
    shares = [gradient(part(outputs, i, i + 2), part(batch, i, i + 2)) for i in range(0, B, 2)]
    assert sum(float(value) for value, _ in shares) == pytest.approx(float(whole), rel=1e-5)
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *[s for _, s in shares])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8), joined, slope)
    parts = [task.weights(part(batch, i, i + 2)) for i in range(0, B, 2)]
    assert sum(float(one["labels"]) for one in parts) == pytest.approx(float(weights["labels"]), rel=1e-6)


def test_padding_counts_in_neither_loss_nor_metric():
    outputs, batch, pred = example()
    task = SemanticTask(K)
    real = part(batch, 0, B - 1)
    assert task.weights(batch) == task.weights(real)
    whole, _ = task.loss(outputs, batch, task.weights(batch))
    without, _ = task.loss(part(outputs, 0, B - 1), real, task.weights(real))
    assert float(whole) == pytest.approx(float(without), rel=1e-6)
    update = jax.jit(task.metric_update)
    a, b = update({LABEL: pred}, batch), update({LABEL: pred[: B - 1]}, real)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("label", [IGNORE, 0])
def test_a_batch_of_no_weight_has_loss_zero_and_no_gradient(label):
    outputs, batch, _ = example()
    outputs[BORDER_LOGITS] = Logits(outputs[LOGITS].values[..., :2], (H, W))
    task = SemanticTask(K, class_weights=(0, 1, 1, 1), label_smoothing=0.1, border_weight=0.1)
    # Class 0 has weight 0, so its smoothed terms have nothing to be divided by.
    batch = {LABEL: np.full_like(batch[LABEL], label)}
    value, slope = jax.jit(jax.value_and_grad(lambda o: task.loss(o, batch, task.weights(batch))[0]))(outputs)
    assert value == 0
    assert not any(np.any(np.asarray(x)) for x in jax.tree.leaves(slope))


def test_merges_equal_one_pass():
    _, batch, pred = example()
    task = SemanticTask(K)
    update = jax.jit(task.metric_update)
    whole = task.metric_merge(task.metric_init(), update({LABEL: pred}, batch))
    merged = task.metric_init()
    for i in range(0, B, 2):
        merged = task.metric_merge(merged, update({LABEL: pred[i : i + 2]}, part(batch, i, i + 2)))
    assert merged["confusion"]["matrix"].dtype == np.int64
    assert merged["boundary"]["f1"].dtype == np.float64
    np.testing.assert_array_equal(merged["confusion"]["matrix"], whole["confusion"]["matrix"])
    np.testing.assert_array_equal(merged["boundary"]["images"], whole["boundary"]["images"])
    np.testing.assert_allclose(merged["boundary"]["f1"], whole["boundary"]["f1"], rtol=1e-6)


def test_result():
    _, batch, pred = example()
    names = ("sky", "road", "car", "pole")
    task = SemanticTask(K, classes=names)
    state = task.metric_merge(task.metric_init(), task.metric_update({LABEL: pred}, batch))
    result = task.metric_result(state)
    assert result["classes"] == list(names)
    np.testing.assert_array_equal(result["confusion"], confusion(pred, batch[LABEL], batch[VALID], K))
    counts = boundary_counts(pred, batch[LABEL], batch[VALID], K, diagonal_tolerance(H, W))
    f1, present = (np.asarray(x, np.float64) for x in boundary_f1(counts))
    per_class = f1.sum(0) / present.sum(0)
    np.testing.assert_allclose(result["per_class_boundary_f1"], per_class, rtol=1e-6)
    assert result["boundary_f1"] == pytest.approx(per_class.mean(), rel=1e-6)
    for key in ("miou", "pixel_accuracy", "mean_accuracy", "fwiou", "mean_dice"):
        assert type(result[key]) is float
        assert 0 < result[key] < 1
    for key in ("per_class_iou", "per_class_dice", "per_class_accuracy"):
        assert len(result[key]) == K
    assert result["miou"] == pytest.approx(np.mean(result["per_class_iou"]))


def test_a_class_never_seen_is_nan_and_left_out():
    task = SemanticTask(K + 1)
    _, batch, pred = example()
    result = task.metric_result(task.metric_merge(task.metric_init(), task.metric_update({LABEL: pred}, batch)))
    assert np.isnan(result["per_class_iou"][K])
    assert np.isnan(result["per_class_boundary_f1"][K])
    assert np.isfinite([result["miou"], result["boundary_f1"]]).all()


@pytest.mark.parametrize("void", ["ignore", "union", "drop"])
def test_padding_an_image_changes_nothing_where_the_batch_says_its_size(void):
    _, batch, pred = example()
    task = SemanticTask(K, void=void, boundary_tolerance=0.1)
    size = np.tile(np.array([[H, W]]), (B, 1))
    grow = ((0, 0), (0, 20), (0, 8))
    padded = {LABEL: np.pad(batch[LABEL], grow, constant_values=IGNORE), VALID: batch[VALID], SIZE: size}
    update = jax.jit(task.metric_update)
    a = update({LABEL: pred}, batch)
    b = update({LABEL: np.pad(pred, grow, constant_values=1)}, padded)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_void_convention_reaches_the_scores():
    label = np.array([[[0, 0, IGNORE, 1]]], np.uint8)
    pred = np.array([[[0, 0, 0, 1]]], np.uint8)
    mious = {}
    for void in ("ignore", "union"):
        task = SemanticTask(2, void=void, boundary=False)
        state = task.metric_merge(task.metric_init(), task.metric_update({LABEL: pred}, {LABEL: label}))
        mious[void] = task.metric_result(state)["miou"]
    assert mious == {"ignore": 1.0, "union": pytest.approx((2 / 3 + 1) / 2)}


def test_without_boundary():
    task = SemanticTask(K, boundary=False)
    _, batch, pred = example()
    state = task.metric_merge(task.metric_init(), task.metric_update({LABEL: pred}, batch))
    assert set(state) == {"confusion"}
    assert "boundary_f1" not in task.metric_result(state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_name": "crossentropy"}, "Did you mean 'cross_entropy'"),
        ({"void": "unions"}, "Did you mean 'union'"),
        ({"class_weights": (1.0, 2.0)}, "2 class weights for 4 classes"),
        ({"classes": ("a",)}, "1 class names for 4 classes"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        SemanticTask(K, **options)


@pytest.mark.parametrize("name", ["cross_entropy", "ohem"])
def test_coarse_logits_have_the_loss_of_the_upsampled_ones(name):
    """Of a loss that is summed in blocks, and of one that needs all pixels at once."""
    _, batch, _ = example()
    coarse = np.random.default_rng(1).normal(size=(3, B, H // 4, W // 4, K)).astype(np.float32)
    main, aux, border = (Logits(jnp.asarray(x), (H, W), align_corners=True) for x in coarse)
    outputs = {LOGITS: main, AUX_LOGITS: (aux,), BORDER_LOGITS: border}
    task = SemanticTask(K, loss_name=name, class_weights=WEIGHTS, border_weight=0.5)
    weights = task.weights(batch)
    loss = lambda outputs: task.loss(outputs, batch, weights)[0]  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(outputs)

    def at_size(outputs):
        return loss(jax.tree.map(lambda x: Logits(x, (H, W)), upsampled(outputs)))

    expected, slope = jax.value_and_grad(at_size)(outputs)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), gradient, slope)
