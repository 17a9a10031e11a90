"""The task `points`: losses against NumPy and additive over parts of a batch, augmentation, prediction, pictures."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.config import from_dict
from segjax.core.errors import ConfigError
from segjax.core.fields import cut
from segjax.core.schema import CATEGORY, IGNORE, LOGITS, PART, POINT_VALID, POINTS, TRANSFORM, VALID, DatasetInfo
from segjax.data.palettes import distinct
from segjax.tasks import make_task, make_view
from segjax.tasks.points.config import Augment
from segjax.tasks.points.task import PointsTask, make_transform

CATEGORIES = (("cap", (0, 1)), ("mug", (2, 3, 4)))
PARTS, CLOUDS, LENGTH, SIZE = 5, 4, 12, 6
INFO = DatasetInfo(
    "toy",
    ("cap a", "cap b", "mug a", "mug b", "mug c"),
    distinct(PARTS),
    image_dtype="float32",
    max_points=LENGTH,
    categories=CATEGORIES,
)


def task(**changes) -> PointsTask:
    return PointsTask(PARTS, CATEGORIES, **changes)


def batch(seed: int = 0):
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 2, CLOUDS).astype(np.int32)
    count = rng.integers(5, LENGTH + 1, CLOUDS)
    part = np.where(category[:, None] == 0, rng.integers(0, 2, (CLOUDS, LENGTH)), rng.integers(2, 5, (CLOUDS, LENGTH)))
    part[0, 0] = IGNORE
    return {
        POINTS: rng.normal(size=(CLOUDS, LENGTH, 3)).astype(np.float32),
        POINT_VALID: np.arange(LENGTH) < count[:, None],
        PART: part.astype(np.int32),
        CATEGORY: category,
        VALID: np.ones(CLOUDS, bool),
    }


def outputs(seed: int = 1):
    rng = np.random.default_rng(seed)
    return {
        LOGITS: rng.normal(size=(CLOUDS, LENGTH, PARTS)).astype(np.float32),
        TRANSFORM: (np.eye(SIZE) + 0.3 * rng.normal(size=(CLOUDS, SIZE, SIZE))).astype(np.float32),
    }


def reference(found, given, regulariser, weight):
    """float64, in loops."""
    logits, total, points = found[LOGITS].astype(np.float64), 0.0, 0
    for b in range(CLOUDS):
        for p in range(LENGTH):
            if given[VALID][b] and given[POINT_VALID][b, p] and given[PART][b, p] != IGNORE:
                row = logits[b, p]
                total += np.log(np.exp(row - row.max()).sum()) + row.max() - row[given[PART][b, p]]
                points += 1
    transforms = found[TRANSFORM][given[VALID]].astype(np.float64)
    errors = [np.linalg.norm(a @ a.T - np.eye(SIZE)) for a in transforms]
    term = 0.5 * sum(e**2 for e in errors) if regulariser == "squared" else np.mean(errors)
    return total / points + weight * term


@pytest.mark.parametrize("regulariser", ["squared", "norm"])
def test_loss_is_the_mean_over_points_and_the_regulariser(regulariser):
    settings = {"regulariser": regulariser, "regulariser_weight": 0.02}
    found, given = outputs(), batch()
    given[VALID][-1] = False
    one = task(**settings)
    loss, parts = one.loss(found, given, one.weights(given))
    assert float(loss) == pytest.approx(reference(found, given, regulariser, 0.02), rel=1e-5)
    assert set(parts) == {"loss", "loss/points", "loss/transform"}


@pytest.mark.parametrize("regulariser", ["squared", "norm"])
def test_shares_of_a_batchs_parts_add_up(regulariser):
    one = task(regulariser=regulariser)
    found, given = outputs(), batch()
    weights = one.weights(given)
    halves = [jax.tree.map(lambda x, s=s: x[s], (found, given)) for s in (slice(0, 1), slice(1, None))]
    shares = [one.loss(*half, weights)[0] for half in halves]
    assert float(sum(shares)) == pytest.approx(float(one.loss(found, given, weights)[0]), rel=1e-6)


def test_norm_regulariser_has_a_gradient_at_the_identity():
    one = task(regulariser="norm")
    given = batch()

    def loss(transform):
        return one.loss({LOGITS: outputs()[LOGITS], TRANSFORM: transform}, given, one.weights(given))[0]

    gradient = jax.grad(loss)(jnp.broadcast_to(jnp.eye(SIZE), (CLOUDS, SIZE, SIZE)))
    assert not np.any(gradient)


def test_points_that_do_not_count_change_neither_loss_nor_gradient():
    one, given, found = task(), batch(), outputs()
    given[VALID][2] = False
    counted = given[POINT_VALID] & (given[PART] != IGNORE) & given[VALID][:, None]
    harmed = {**found, LOGITS: np.where(counted[..., None], found[LOGITS], np.nan)}

    def loss(logits, transform):
        return one.loss({LOGITS: logits, TRANSFORM: transform}, given, one.weights(given))[0]

    first, second = (jax.value_and_grad(loss)(o[LOGITS], o[TRANSFORM]) for o in (found, harmed))
    chex.assert_trees_all_equal(first, second)


def test_only_parts_of_the_clouds_category_are_predicted():
    found, given = outputs(), batch()
    given[CATEGORY] = np.array([0, 1, -1, 0], np.int32)
    labels = np.asarray(task().predict(found, given)["label"])
    for row, logits, category in zip(labels, found[LOGITS], given[CATEGORY]):
        parts = CATEGORIES[category][1] if category >= 0 else range(PARTS)
        np.testing.assert_array_equal(row, np.asarray(parts)[logits[:, list(parts)].argmax(-1)])


def test_metrics_score_a_perfect_prediction_and_name_the_categories():
    one, given = task(), batch()
    state = one.metric_update({"label": jnp.asarray(given[PART])}, given)
    result = one.metric_result(one.metric_merge(one.metric_init(), jax.device_get(state)))
    assert result["instance_miou"] == 1.0
    assert result["categories"] == ["cap", "mug"]
    view = make_view("points")
    assert {row[0] for row in view.table(result).rows} <= {"cap", "mug"}


def test_collate_fits_clouds_of_any_extent_into_the_unit_sphere():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 6)).astype(np.float32)
    wide = points.copy()
    wide[:, :3] = 40 * wide[:, :3] + 7
    one = task()
    first, second = (one.collate({POINTS: p, PART: np.zeros(9, int), CATEGORY: 1}) for p in (points, wide))
    np.testing.assert_allclose(first[POINTS], second[POINTS], atol=1e-5)
    np.testing.assert_array_equal(first[POINTS][:, 3:], points[:, 3:])
    assert np.linalg.norm(first[POINTS][:, :3], axis=1).max() == pytest.approx(1, rel=1e-6)
    kept = task(augment=Augment(normalise=False)).collate({POINTS: wide})
    np.testing.assert_array_equal(kept[POINTS], wide)
    assert (kept[CATEGORY], set(kept[PART])) == (-1, {IGNORE})


def test_fields_pad_clouds_and_cut_none():
    one = task()
    fields = one.fields(INFO, None, train=True)
    sample = one.collate({POINTS: np.ones((7, 3)), PART: np.zeros(7, int), CATEGORY: 0})
    padded = {key: cut(sample[key], field) for key, field in fields.items()}
    assert padded[POINTS].shape == (LENGTH, 3)
    assert padded[POINT_VALID].sum() == 7
    assert (padded[PART][7:] == IGNORE).all()
    with pytest.raises(ValueError, match="13"):
        cut(np.ones((13, 3)), fields[POINTS])


def test_transform_chooses_different_points_and_keeps_them_with_their_parts():
    given = batch()
    given[POINTS] = np.arange(CLOUDS * LENGTH * 3, dtype=np.float32).reshape(CLOUDS, LENGTH, 3)
    count = 6
    transform = jax.jit(make_transform(Augment(count=count, rotate=False, jitter=0.0)))
    out = transform(jax.random.key(0), given)
    for b in range(CLOUDS):
        kept = np.asarray(out[POINT_VALID][b])
        assert kept.sum() == min(count, given[POINT_VALID][b].sum())
        where = np.asarray(out[POINTS][b][kept, 0] / 3 - b * LENGTH).round().astype(int)
        assert len(set(where)) == len(where)
        assert given[POINT_VALID][b, where].all()
        np.testing.assert_array_equal(out[PART][b][kept], given[PART][b, where])
    assert not np.array_equal(out[POINTS], transform(jax.random.key(1), given)[POINTS])


def test_transform_turns_about_the_vertical_axis_with_the_normals():
    given = batch()
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(CLOUDS, LENGTH, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    given[POINTS] = np.concatenate([given[POINTS], normals], axis=-1).astype(np.float32)
    given[POINT_VALID][:] = True
    out = make_transform(Augment(count=LENGTH, jitter=0.0))(jax.random.key(0), given)
    for b in range(CLOUDS):
        order = [int(np.argmin(np.abs(given[POINTS][b, :, 1] - y))) for y in np.asarray(out[POINTS][b, :, 1])]
        before, after = given[POINTS][b, order].astype(np.float64), np.asarray(out[POINTS][b], np.float64)
        turn, *_ = np.linalg.lstsq(before[:, :3], after[:, :3], rcond=None)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-4)
        np.testing.assert_allclose(turn[1], [0, 1, 0], atol=1e-4)
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-3)
        np.testing.assert_allclose(before[:, 3:] @ turn, after[:, 3:], atol=1e-4)
        assert np.abs(turn - np.eye(3)).max() > 0.01


def test_transform_stays_within_its_limits():
    given = batch()
    given[POINTS] = np.ones_like(given[POINTS])
    settings = Augment(count=LENGTH, rotate=False, scale=(0.5, 2.0), shift=0.1, jitter=1.0, jitter_limit=0.05)
    out = np.asarray(make_transform(settings)(jax.random.key(3), given)[POINTS])
    middle = np.median(out, axis=1)
    assert (middle > 0.5 - 0.15).all()
    assert (middle < 2.0 + 0.15).all()
    assert np.abs(out - middle[:, None]).max() <= 0.1 + 1e-5
    assert len(np.unique(middle.round(2))) > 3


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (dict(class_weights="auto"), "not a tuple of floats or None"),
        (dict(class_weights=(1.0, 2.0)), "2 numbers, 5 parts"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(loss, words):
    with pytest.raises(ConfigError, match=words):
        make_task(from_dict({"task": "points", "model": {"name": "pointnet/test"}, "loss": loss}), INFO)


def test_a_region_loss_takes_clouds_too():
    one = make_task(from_dict({"task": "points", "loss": {"name": "cross_entropy_dice"}}), INFO)
    found, given = outputs(), batch()
    loss, _ = one.loss(found, given, one.weights(given))
    assert np.isfinite(loss)


def test_pictures_show_a_cloud_from_the_front_and_from_the_side(tmp_path):
    view = make_view("points")
    points = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0]], np.float32)
    truth = view.truth({PART: np.array([0, 1])}, INFO)
    found = view.prediction({"label": np.array([0, 2, 7, 7])}, (2,), INFO)
    pictures = view.pictures(points, truth, found, INFO)
    side = pictures[0].pixels.shape[0]
    assert [picture.title for picture in pictures] == ["truth", "prediction", "errors in red"]
    assert pictures[0].pixels.shape == (side, 2 * side + 4, 3)
    front, flank = pictures[1].pixels[:, :side], pictures[1].pixels[:, side + 4 :]
    for colour, row, column in ((INFO.palette[0], side - 8, 8), (INFO.palette[2], 8, side - 8)):
        np.testing.assert_array_equal(front[row, column], colour)
        np.testing.assert_array_equal(flank[row, side // 2], colour)
    path = found.save(tmp_path / "a.npz")
    with np.load(path) as file:
        np.testing.assert_array_equal(file["label"], [0, 2])
        assert list(file["classes"]) == list(INFO.classes)
