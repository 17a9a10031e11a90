"""The contract of all losses, and what each of them computes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE
from segjax.losses import LOSSES, get_loss
from segjax.losses.border import border_loss

B, H, W, K = 3, 6, 5, 4
CLASS_WEIGHTS = np.array([0.5, 2.0, 1.0, 0.25], np.float32)
CLASSES = {"lovasz_hinge": 2}  # all others take any number
SILENT = {"bootstrapped", "lovasz_hinge", "ohem"}  # no gradient at pixels that are right already, by design


def scene(seed=0, ignored=0.3, classes=K):
    """Logits, uint8 labels with ignored pixels, a mask; the last image is all ignored."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (B, H, W, classes)).astype(np.float32)
    labels = random.integers(0, classes, (B, H, W)).astype(np.uint8)
    labels[random.random((B, H, W)) < ignored] = IGNORE
    labels[-1] = IGNORE
    valid = random.random((B, H, W)) > 0.1
    return logits, labels, valid


class Border:
    """The border loss, which has its labels from the classes', under the interface of the others."""

    def __call__(self, logits, labels, valid, class_weights):
        return border_loss(logits, labels, valid, K)

    def weights(self, labels, valid, num_classes, class_weights):
        return jax.jit(border_loss, static_argnums=3)(jnp.zeros((*labels.shape, 1)), labels, valid, num_classes)[1]


def loss_of(name):
    return Border() if name == "border" else get_loss(name)


def mean_loss(name, **options):
    loss = loss_of(name)

    @jax.jit
    def run(logits, labels, valid):
        def scalar(logits):
            values, weights = loss(logits, labels, valid, **options)
            total = weights.sum()
            return values.sum() / jnp.where(total > 0, total, 1.0), (values, weights)

        return jax.value_and_grad(scalar, has_aux=True)(logits)

    return run


@pytest.fixture(scope="module", params=sorted([*LOSSES, "border"]))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def classes(name):
    return CLASSES.get(name, K)


@pytest.fixture(scope="module")
def weighted(name, classes):
    return mean_loss(name, class_weights=CLASS_WEIGHTS[:classes])


@pytest.mark.parametrize("junk", [1e4, np.inf, -np.inf, np.nan])
def test_ignored_pixels_reach_neither_value_nor_gradient(name, weighted, classes, junk):
    logits, labels, valid = scene(classes=classes)
    ignored = (labels == IGNORE) | ~valid
    changed = np.where(ignored[..., None], np.float32(junk) * np.array([1, -1, 1, 1], np.float32)[:classes], logits)
    (value, (values, weights)), gradient = weighted(logits, labels, valid)
    (value_2, (values_2, weights_2)), gradient_2 = weighted(changed, labels, valid)
    assert np.isfinite(value)
    assert value > 0
    assert value == value_2
    np.testing.assert_array_equal(values, values_2)
    np.testing.assert_array_equal(weights, weights_2)
    np.testing.assert_array_equal(gradient, gradient_2)
    assert not np.any(np.asarray(gradient)[ignored])
    assert np.isfinite(gradient).all()
    heard = np.abs(np.asarray(gradient)[~ignored]).sum(-1) > 0
    assert heard.any() if name in SILENT else heard.all()


def test_gradient_is_the_slope(weighted, classes):
    logits, labels, valid = scene(classes=classes)
    direction = np.random.default_rng(7).normal(size=logits.shape).astype(np.float32)
    step = 1e-3
    up, down = (weighted(logits + sign * step * direction, labels, valid)[0][0] for sign in (1, -1))
    _, gradient = weighted(logits, labels, valid)
    assert float((up - down) / (2 * step)) == pytest.approx(float((gradient * direction).sum()), rel=1e-2, abs=1e-4)


def test_all_ignored_is_zero_not_nan(weighted, classes):
    logits, labels, valid = scene(classes=classes)
    (_, (values, weights)), _ = weighted(logits, labels, valid)
    assert not np.any(np.asarray(values)[-1])
    assert not np.any(np.asarray(weights)[-1])
    (value, (_, weights)), gradient = weighted(logits, np.full_like(labels, IGNORE), valid)
    assert value == 0
    assert not np.any(np.asarray(weights))
    assert not np.any(np.asarray(gradient))


def test_weights_follow_from_labels_alone(name, weighted, classes):
    logits, labels, valid = scene(classes=classes)
    (_, (values, weights)), _ = weighted(logits, labels, valid)
    expected = loss_of(name).weights(labels, valid, classes, CLASS_WEIGHTS[:classes])
    np.testing.assert_array_equal(expected, weights)
    assert values.shape == weights.shape
    assert values.dtype == weights.dtype == jnp.float32
    assert np.asarray(weights).sum() > 0


def test_parts_of_a_batch_add_up_to_it(weighted, classes):
    """What micro-batches, devices and hosts rely on: an image's terms do not depend on the images beside it."""
    logits, labels, valid = scene(classes=classes)
    (_, (values, weights)), _ = weighted(logits, labels, valid)
    for i in range(B):
        (_, (value, weight)), _ = weighted(logits[i : i + 1], labels[i : i + 1], valid[i : i + 1])
        np.testing.assert_allclose(value[0], values[i], rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(weight[0], weights[i])


def test_arithmetic_is_float32_for_bfloat16_logits(weighted, classes):
    logits, labels, valid = scene(classes=classes)
    low = jnp.asarray(logits, jnp.bfloat16)
    (_, (values, _)), _ = weighted(low, labels, valid)
    (_, (expected, _)), _ = weighted(low.astype(jnp.float32), labels, valid)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_confident_logits_stay_finite(weighted, classes, scale):
    logits, labels, valid = scene(classes=classes)
    (value, _), gradient = weighted(scale * logits, labels, valid)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weights", [None, CLASS_WEIGHTS, np.array([0, 1, 2, 3], np.float32)])
def test_cross_entropy_equals_torch(smoothing, class_weights):
    torch = pytest.importorskip("torch")
    logits, labels, _ = scene()
    run = mean_loss("cross_entropy", class_weights=class_weights, label_smoothing=smoothing)
    (value, (values, _)), gradient = run(logits, labels, np.ones((B, H, W), bool))

    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    options = {
        "weight": None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64),
        "ignore_index": IGNORE,
        "label_smoothing": smoothing,
    }
    arguments = theirs.permute(0, 3, 1, 2), torch.tensor(labels.astype(np.int64))
    per_pixel = torch.nn.functional.cross_entropy(*arguments, **options, reduction="none")
    mean = torch.nn.functional.cross_entropy(*arguments, **options)
    mean.backward()
    np.testing.assert_allclose(values, per_pixel.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert float(value) == pytest.approx(mean.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_by_hand(gamma):
    logits, labels, valid = scene()
    values, weights = get_loss("focal", gamma=gamma)(logits, labels, valid, class_weights=CLASS_WEIGHTS)
    e = np.exp(logits.astype(np.float64))
    p = e / e.sum(-1, keepdims=True)
    counted = valid & (labels != IGNORE)
    label = np.where(counted, labels, 0)
    p = np.take_along_axis(p, label[..., None].astype(int), -1)[..., 0]
    expected = np.where(counted, CLASS_WEIGHTS[label] * (1 - p) ** gamma * -np.log(p), 0)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(weights, np.where(counted, CLASS_WEIGHTS[label], 0))


def test_focal_without_focus_is_cross_entropy():
    logits, labels, valid = scene()
    values, _ = get_loss("focal", gamma=0.0)(logits, labels, valid)
    np.testing.assert_allclose(values, get_loss("cross_entropy")(logits, labels, valid)[0], rtol=1e-5, atol=1e-6)


def test_focal_gradient_is_finite_on_a_certain_pixel():
    logits = np.array([1e3, 0.0], np.float32).reshape(1, 1, 1, 2)
    gradient = jax.grad(lambda x: get_loss("focal", gamma=0.5)(x, np.zeros((1, 1, 1), int), True)[0].sum())(logits)
    assert np.isfinite(gradient).all()


def test_dice_by_hand():
    logits, labels, valid = scene()
    values, weights = get_loss("dice", smooth=2.0)(logits, labels, valid, class_weights=CLASS_WEIGHTS)
    for image in range(B - 1):
        counted = valid[image] & (labels[image] != IGNORE)
        e = np.exp(logits[image][counted].astype(np.float64))
        p = e / e.sum(-1, keepdims=True)
        t = np.eye(K)[labels[image][counted]]
        dice = (2 * (p * t).sum(0) + 2.0) / (p.sum(0) + t.sum(0) + 2.0)
        assert float(values[image]) == pytest.approx(np.average(1 - dice, weights=CLASS_WEIGHTS), rel=1e-5)
    np.testing.assert_array_equal(weights, [1, 1, 0])


def test_cross_entropy_dice_is_the_images_mean_and_its_dice():
    logits, labels, valid = scene()
    values, weights = get_loss("cross_entropy_dice", share=0.5, smooth=2.0)(
        logits, labels, valid, class_weights=CLASS_WEIGHTS
    )
    dice, _ = get_loss("dice", smooth=2.0)(logits, labels, valid, class_weights=CLASS_WEIGHTS)
    for image in range(B - 1):
        counted = valid[image] & (labels[image] != IGNORE)
        z, y = logits[image][counted].astype(np.float64), labels[image][counted]
        surprise = np.log(np.exp(z).sum(-1)) - z[np.arange(len(y)), y]
        mean = np.average(surprise, weights=CLASS_WEIGHTS[y])
        assert float(values[image]) == pytest.approx(mean + 0.5 * float(dice[image]), rel=1e-5)
    np.testing.assert_array_equal(weights, [1, 1, 0])


def test_every_loss_is_in_the_file_of_its_name():
    for name in LOSSES:
        assert type(get_loss(name)).__module__ == f"segjax.losses.{name}"


def test_errors_name_the_way_out():
    with pytest.raises(ConfigError, match=r"'cross_entropi'.*Did you mean 'cross_entropy'"):
        get_loss("cross_entropi")
    with pytest.raises(ConfigError, match=r"'gama'.*Did you mean 'gamma'"):
        get_loss("focal", gama=1.0)
    logits, labels, valid = scene()
    with pytest.raises(ConfigError, match=r"label_smoothing is 1\.0"):
        get_loss("cross_entropy")(logits, labels, valid, label_smoothing=1.0)
    with pytest.raises(ConfigError, match="Dice has no smoothed form"):
        get_loss("dice")(logits, labels, valid, label_smoothing=0.1)
