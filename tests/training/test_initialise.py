from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training.initialise import initialise
from segjax.training.state import init_variables


class _Net(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(64, (3, 3), kernel_init=nn.initializers.he_normal(), name="truncated")(x)
        x = nn.Conv(64, (3, 3), kernel_init=nn.initializers.normal(0.02), name="normal")(x)
        x = nn.Conv(64, (1, 1), kernel_init=nn.initializers.xavier_uniform(), name="uniform")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Conv(64, (1, 1), kernel_init=nn.initializers.orthogonal(), name="orthogonal")(x)
        return x + self.param("prior", nn.initializers.constant(-4.6), (64,))


def test_same_tree_and_distribution_as_jax() -> None:
    ours = init_variables(_Net(), 3, (8, 8, 32))
    theirs = jax.jit(_Net().init)(jax.random.key(3), jnp.zeros((1, 8, 8, 32)))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(
        lambda a, b: (np.testing.assert_equal(a.shape, b.shape), np.testing.assert_equal(a.dtype, b.dtype)),
        ours,
        theirs,
    )
    for name in ("truncated", "normal", "uniform"):
        a, b = (np.asarray(v["params"][name]["kernel"]).ravel() for v in (ours, theirs))
        np.testing.assert_allclose(np.std(a), np.std(b), rtol=0.05)
        np.testing.assert_allclose(np.abs(a).max(), np.abs(b).max(), rtol=0.25 if name == "normal" else 0.02)
        assert abs(np.mean(a)) < 0.05 * np.std(a)
        assert len(np.unique(a)) > 0.9 * a.size
    q = ours["params"]["orthogonal"]["kernel"][0, 0]
    np.testing.assert_allclose(q @ q.T, np.eye(64), atol=1e-5)
    np.testing.assert_array_equal(ours["params"]["prior"], np.full(64, -4.6, np.float32))
    np.testing.assert_array_equal(ours["batch_stats"]["norm"]["var"], np.ones(64))


def test_depends_on_the_seed_and_the_path_not_on_the_size() -> None:
    a, b, c = (init_variables(_Net(), seed, size) for seed, size in ((0, (8, 8, 3)), (0, (16, 24, 3)), (1, (8, 8, 3))))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert not np.array_equal(a["params"]["normal"]["kernel"], c["params"]["normal"]["kernel"])
    assert not np.array_equal(
        a["params"]["normal"]["kernel"].ravel()[:64], a["params"]["uniform"]["kernel"].ravel()[:64]
    )


def test_a_value_that_needs_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depends on the input of shape \(3,\)"):
        initialise(lambda key, x: {"mean": x.mean()}, jax.random.key(0), jnp.ones(3))
