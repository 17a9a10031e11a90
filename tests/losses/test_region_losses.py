"""Losses of regions and of hard pixels against the formulas of their authors' code, in float64, image by image."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE
from segjax.losses import get_loss
from segjax.ops.distance import distance

B, H, W, K = 4, 9, 7, 4


def scene(classes=K, seed=0):
    """Logits, labels, a mask; image 0 lacks class 1, image 2 holds one class only, image 3 nothing that counts."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (B, H, W, classes)).astype(np.float32)
    labels = random.integers(0, classes, (B, H, W))
    labels[0][labels[0] == 1] = 0
    labels[2] = 0
    labels[random.random(labels.shape) < 0.2] = IGNORE
    labels[3] = IGNORE
    return logits, labels, random.random(labels.shape) > 0.1


def images(logits, labels, valid):
    """Of each image its probabilities [N, K] and labels [N] at the pixels that count, float64."""
    for z, y, known in zip(logits.astype(np.float64), labels, valid & (labels != IGNORE)):
        e = np.exp(z[known] - z[known].max(-1, keepdims=True))
        yield e / e.sum(-1, keepdims=True), y[known]


def jaccard_gains(sorted_foreground):
    """Berman's algorithm 1 as in bermanmaxim/LovaszSoftmax."""
    total = sorted_foreground.sum()
    intersection = total - np.cumsum(sorted_foreground)
    union = total + np.cumsum(1 - sorted_foreground)
    return np.diff(1 - intersection / union, prepend=0.0)


def generalised_dice(p, y):
    t = np.eye(p.shape[1])[y]
    with np.errstate(divide="ignore"):
        w = 1 / t.sum(0) ** 2
    w[np.isinf(w)] = w[np.isfinite(w)].max()  # NiftyNet
    return 1 - 2 * (w * (p * t).sum(0)).sum() / (w * (p + t).sum(0)).sum()


def tversky(p, y, alpha=0.3, beta=0.7, smooth=1.0):
    t = np.eye(p.shape[1])[y]
    tp, fp, fn = (p * t).sum(0), (p * (1 - t)).sum(0), ((1 - p) * t).sum(0)
    return 1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)


def lovasz_softmax(p, y):
    losses = []
    for k in np.unique(y):
        foreground = (y == k).astype(float)
        errors = np.abs(foreground - p[:, k])
        order = np.argsort(-errors, kind="stable")
        losses.append(errors[order] @ jaccard_gains(foreground[order]))
    return np.mean(losses)


ORACLES = [
    ("generalised_dice", {}, generalised_dice),
    ("tversky", {}, lambda p, y: tversky(p, y).mean()),
    ("focal_tversky", {"gamma": 2.0}, lambda p, y: (tversky(p, y) ** 0.5).mean()),
    ("lovasz_softmax", {}, lovasz_softmax),
]


@pytest.mark.parametrize(
    ("name", "constants", "oracle"), ORACLES, ids=lambda value: value if type(value) is str else ""
)
def test_images_equal_the_authors_formula(name, constants, oracle):
    logits, labels, valid = scene()
    values, weights = get_loss(name, **constants)(logits, labels, valid)
    expected = [oracle(p, y) if len(y) else 0.0 for p, y in images(logits, labels, valid)]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weights, [1, 1, 1, 0])


def test_tversky_at_one_half_is_dice():
    logits, labels, valid = scene()
    half = get_loss("tversky", false_positives=0.5, false_negatives=0.5, smooth=0.5)(logits, labels, valid)
    np.testing.assert_allclose(half[0], get_loss("dice", smooth=1.0)(logits, labels, valid)[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["dice", "tversky", "generalised_dice", "lovasz_softmax", "boundary"])
def test_class_weights_of_ones_change_nothing_and_a_zero_takes_its_class_out(name):
    logits, labels, valid = scene()
    plain, _ = get_loss(name)(logits, labels, valid)
    ones, _ = get_loss(name)(logits, labels, valid, class_weights=3 * np.ones(K))
    np.testing.assert_allclose(ones, plain, rtol=1e-5)
    without, _ = get_loss(name)(logits, labels, valid, class_weights=np.array([1, 1, 0, 1]))
    assert np.isfinite(without).all()
    assert not np.allclose(without[0], plain[0])


def test_lovasz_hinge_equals_the_authors_formula():
    logits, labels, valid = scene(classes=2, seed=3)
    values, _ = get_loss("lovasz_hinge")(logits, labels, valid)
    known = valid & (labels != IGNORE)
    for image in range(3):  # the third has no foreground
        z, y = logits[image][known[image]].astype(np.float64), labels[image][known[image]]
        errors = 1 - (z[:, 1] - z[:, 0]) * (2 * y - 1)
        order = np.argsort(-errors, kind="stable")
        expected = np.maximum(errors[order], 0) @ jaccard_gains(y[order].astype(float))
        assert float(values[image]) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ConfigError, match="takes 2 classes, not 4: use lovasz_softmax"):
        get_loss("lovasz_hinge")(*scene())


def test_lovasz_softmax_is_the_jaccard_loss_of_a_certain_prediction():
    labels = np.random.default_rng(0).integers(0, 2, (1, 64, 64))
    predicted = np.random.default_rng(1).integers(0, 2, (1, 64, 64))
    values, _ = get_loss("lovasz_softmax")(100.0 * np.eye(2)[predicted], labels, np.ones_like(labels, bool))
    iou = [((labels == k) & (predicted == k)).sum() / ((labels == k) | (predicted == k)).sum() for k in range(2)]
    assert float(values[0]) == pytest.approx(1 - np.mean(iou), rel=1e-5)


@pytest.mark.parametrize("threshold", [0.05, 0.7])
def test_ohem_equals_the_usual_code_on_each_image(threshold):
    logits, labels, valid = scene(seed=5)
    values, weights = get_loss("ohem", threshold=threshold, share=0.25)(logits, labels, valid)
    for i, (p, y) in enumerate(images(logits, labels, valid)):
        if len(y):
            p = np.sort(p[np.arange(len(y)), y])
            limit = max(p[int(np.ceil(0.25 * len(y)))], threshold)  # HRNet's OhemCrossEntropy
            assert float(values[i].sum()) / len(y) == pytest.approx(-np.log(p[p < limit]).mean(), rel=1e-5)
    np.testing.assert_array_equal(weights, valid & (labels != IGNORE))


def test_bootstrapped_is_the_mean_of_the_hardest():
    logits, labels, valid = scene()
    values, _ = get_loss("bootstrapped", share=0.1)(logits, labels, valid)
    for i, (p, y) in enumerate(images(logits, labels, valid)):
        if len(y):
            losses = np.sort(-np.log(p[np.arange(len(y)), y]))[::-1]
            expected = losses[: int(np.ceil(0.1 * len(y)))].mean()
            assert float(values[i].sum()) / len(y) == pytest.approx(expected, rel=1e-5)


def test_all_pixels_hard_is_cross_entropy():
    logits, labels, valid = scene()
    weights = np.array([0.5, 2.0, 1.0, 0.25])
    expected, _ = get_loss("cross_entropy")(logits, labels, valid, class_weights=weights)
    for name in ("ohem", "bootstrapped"):
        values, _ = get_loss(name, share=1.0)(logits, labels, valid, class_weights=weights)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def authors_distance(region):
    """one_hot2dist of LIVIAETS/boundary-loss."""
    if not region.any() or region.all():
        return np.zeros(region.shape)
    return distance_transform_edt(~region) * ~region - (distance_transform_edt(region) - 1) * region


def test_boundary_equals_the_authors_formula_up_to_its_constant():
    logits, labels, valid = scene()
    loss = get_loss("boundary", region=0.0, alpha=1.0)
    values, gradient = (np.asarray(a, np.float64) for a in _value_and_gradient(loss, logits, labels, valid))
    known = valid & (labels != IGNORE)
    for i in range(3):
        t = (labels[i][..., None] == np.arange(K)) & known[i][..., None]
        phi = np.stack([authors_distance(t[..., k]) for k in range(K)], -1)
        e = np.exp(logits[i].astype(np.float64))
        p = e / e.sum(-1, keepdims=True)
        theirs = (phi * p)[known[i]].mean()
        assert values[i] == pytest.approx(theirs - (phi * t)[known[i]].mean(), rel=1e-4, abs=1e-7)
        slope = np.where(known[i][..., None], p * (phi - (p * phi).sum(-1, keepdims=True)), 0) / (known[i].sum() * K)
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-3, atol=1e-7)
    both, _ = get_loss("boundary", region=0.5, alpha=0.1)(logits, labels, valid)
    dice, _ = get_loss("generalised_dice")(logits, labels, valid)
    np.testing.assert_allclose(both, 0.1 * values + 0.5 * np.asarray(dice), rtol=1e-5, atol=1e-6)


def _value_and_gradient(loss, logits, labels, valid):
    def total(z):
        values, _ = loss(z, labels, valid)
        return values.sum(), values

    (_, values), gradient = jax.value_and_grad(total, has_aux=True)(logits)
    return values, gradient


@pytest.mark.parametrize("density", [0.01, 0.1, 0.6])
def test_distance_is_scipys(density):
    inside = np.random.default_rng(0).random((2, 23, 31, 2)) < density
    found = np.asarray(jax.jit(distance)(inside))
    for b in range(2):
        for c in range(2):
            expected = distance_transform_edt(~inside[b, ..., c]) if inside[b, ..., c].any() else 23 + 31
            np.testing.assert_allclose(found[b, ..., c], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "constants", "words"),
    [
        ("ohem", {"share": 1.5}, "OHEM: share is 1.5: it must be at most 1"),
        ("bootstrapped", {"share": 0.0}, "Bootstrapped: share is 0.0: it must be above 0"),
        ("tversky", {"false_positives": -1.0}, "false_positives is -1.0: give a number of at least 0"),
        ("focal", {"gamma": "two"}, "Focal: gamma is 'two': give a number of at least 0"),
        ("focal_tversky", {"gamma": 0}, "gamma is 0: it must be above 0"),
    ],
)
def test_bad_constants_are_one_line(name, constants, words):
    with pytest.raises(ConfigError) as caught:
        get_loss(name, **constants)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
