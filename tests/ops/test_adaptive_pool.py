"""Adaptive pooling against PyTorch: every small size, values and gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.ops.adaptive_pool import adaptive_avg_pool, adaptive_max_pool, bin_edges, bin_means

torch = pytest.importorskip("torch")
functional = torch.nn.functional

POOLS = {
    "mean": (adaptive_avg_pool, functional.adaptive_avg_pool2d),
    "max": (adaptive_max_pool, functional.adaptive_max_pool2d),
}


def test_means_equal_torch_for_every_small_size():
    for size in range(1, 20):
        unit = torch.eye(size, dtype=torch.float64)[None]
        for count in range(1, 24):
            expected = functional.adaptive_avg_pool1d(unit, count)[0].T.numpy()
            np.testing.assert_allclose(bin_means(size, count), expected, rtol=1e-6, err_msg=f"{size} in {count}")


def test_bins_cover_every_pixel():
    for size in range(1, 20):
        for count in range(1, 24):
            first, last = bin_edges(size, count)
            assert first[0] == 0
            assert last[-1] == size
            assert (first[1:] <= last[:-1]).all()
            assert (last > first).all()


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize(
    ("size", "bins"),
    [((7, 9), 3), ((6, 12), 6), ((5, 4), (2, None)), ((4, 5), (None, 1)), ((3, 5), (6, 7)), ((1, 1), 2), ((13, 1), 4)],
)
def test_equals_torch(kind, size, bins, value_and_pullback):
    ours, theirs = POOLS[kind]
    rng = np.random.default_rng(0)
    # Few distinct values: ties in most bins.
    x = rng.integers(0, 3, (2, *size, 3)).astype(np.float32)
    tx = torch.tensor(x).permute(0, 3, 1, 2).requires_grad_()
    expected = theirs(tx, bins)
    cotangent = rng.normal(size=expected.permute(0, 2, 3, 1).shape).astype(np.float32)
    expected.backward(torch.tensor(cotangent).permute(0, 3, 1, 2))
    y, (dx,) = value_and_pullback(lambda a: ours(a, bins), cotangent, x)
    np.testing.assert_allclose(y, expected.detach().permute(0, 2, 3, 1), rtol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", POOLS)
def test_nan_is_not_pooled_away_and_bfloat16_stays(kind):
    pool = POOLS[kind][0]
    x = jnp.ones((1, 5, 4, 1), jnp.bfloat16).at[0, 3, 1].set(jnp.nan)
    y = pool(x, 2)
    assert y.dtype == jnp.bfloat16
    assert jnp.isnan(y[0, 1, 0, 0])


@pytest.mark.parametrize("kind", POOLS)
def test_no_scatter(kind):
    pool = POOLS[kind][0]
    traced = str(jax.make_jaxpr(jax.grad(lambda x: pool(x, 3).sum()))(jnp.zeros((1, 7, 8, 2))))
    assert "scatter" not in traced


@pytest.mark.parametrize(("bins", "shape", "message"), [(0, (1, 4, 4, 1), "bins=0"), ((2, -1), (1, 4, 4, 1), "-1")])
def test_bins_that_are_not_positive(bins, shape, message):
    with pytest.raises(ModelError, match=message):
        adaptive_avg_pool(jnp.ones(shape), bins)


def test_not_a_floating_image():
    with pytest.raises(ModelError, match=r"float32 \(4, 4, 1\)"):
        adaptive_max_pool(jnp.ones((4, 4, 1)), 2)
    with pytest.raises(ModelError, match="int32"):
        adaptive_avg_pool(jnp.ones((1, 4, 4, 1), int), 2)
