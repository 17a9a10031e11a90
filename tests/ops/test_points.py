"""Points against PyTorch's grid_sample: values and both gradients; uncertain points by their definition."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.points import sample_points, uncertain_points


def test_sampling_equals_grid_sample(value_and_pullback):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 7, 3)).astype(np.float32)
    points = rng.uniform(-0.3, 1.3, (40, 2)).astype(np.float32)
    points[:6] = [[0, 0], [1, 1], [0, 1], [1, 0], [-2, 0.5], [0.5, 3]]
    points[6:9] = (np.float32([[1, 2], [3, 0], [6, 4]]) + 0.5) / [7, 5]  # on pixels
    there, where = torch.tensor(features, requires_grad=True), torch.tensor(points, requires_grad=True)
    grid = 2 * where[None, None] - 1
    expected = torch.nn.functional.grid_sample(there.permute(2, 0, 1)[None], grid, align_corners=False)[0, :, 0].T
    cotangent = rng.normal(size=(40, 3)).astype(np.float32)
    expected.backward(torch.tensor(cotangent))
    value, gradients = value_and_pullback(sample_points, cotangent, features, points)
    np.testing.assert_allclose(value, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(gradients[0], there.grad, atol=1e-5)
    smooth = np.delete(np.arange(40), range(9))  # on a pixel the slope differs between its sides
    np.testing.assert_allclose(gradients[1][smooth], where.grad[smooth], rtol=1e-4, atol=1e-3)


def test_a_batch_of_any_shape_and_bfloat16():
    rng = np.random.default_rng(0)
    features, points = (
        jnp.asarray(rng.normal(size=(2, 5, 7, 3)), jnp.bfloat16),
        jnp.asarray(rng.uniform(size=(2, 4, 6, 2))),
    )
    values = jax.vmap(sample_points)(features, points)
    assert values.dtype == jnp.bfloat16
    chex.assert_shape(values, (2, 4, 6, 3))
    one = sample_points(features[1], points[1, 2, 3])
    np.testing.assert_array_equal(np.float32(values[1, 2, 3]), np.float32(one))


def test_maps_of_any_size_agree_on_a_place():
    # A plane is interpolated exactly within the outermost pixel centres.
    points = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (20, 2)), jnp.float32)
    for height, width in ((4, 6), (20, 30)):
        y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width) + 0.5) / width
        plane = jnp.asarray(3 * x + 7 * y, jnp.float32)[..., None]
        np.testing.assert_allclose(sample_points(plane, points)[:, 0], points @ np.float32([3, 7]), atol=1e-4)


def test_uncertain_points_are_the_most_uncertain_of_those_drawn(jit_once):
    logits = jnp.asarray(np.mgrid[:16, :16][1] - 7.5, jnp.float32)[..., None]  # uncertain about the middle column
    run = jit_once(lambda logits, key: uncertain_points(logits, key, 400))
    for seed in (0, 1):
        points = np.asarray(run(logits, jax.random.key(seed)))
        chex.assert_shape(points, (400, 2))
        assert np.all((points >= 0) & (points < 1))
        # 300 of 1,200 uniform points: the nearest quarter lies within an eighth of the middle.
        away = np.abs(points[:, 0] - 0.5)
        within = np.abs(points[:300, 1] - 0.5) < 15 / 32  # nearer the edge than half a pixel zeros are mixed in
        assert np.all(np.diff(away[:300][within]) >= -1e-5)
        assert 0.09 < away[299] < 0.16
        # The others are uniform, and so is y.
        assert 0.2 < away[300:].mean() < 0.3
        assert abs(points[:, 1].mean() - 0.5) < 0.06
    again = run(logits, jax.random.key(1))
    np.testing.assert_array_equal(points, again)


def test_another_uncertainty_and_no_gradient():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(6, 6, 3)), jnp.float32)

    def between_the_best_two(values):
        best = jax.lax.top_k(values, 2)[0]
        return best[..., 1] - best[..., 0]

    def total(logits):
        return uncertain_points(logits, jax.random.key(0), 8, uncertainty=between_the_best_two).sum()

    value, gradient = jax.value_and_grad(total)(logits)
    assert np.isfinite(value)
    assert not np.any(gradient)
    with pytest.raises(ModelError, match="importance=2"):
        uncertain_points(logits, jax.random.key(0), 8, importance=2)
