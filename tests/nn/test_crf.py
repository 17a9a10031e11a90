"""The CRF-as-RNN layer: its parameters, the operation it stands for, and that it learns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.nn.crf import CRFasRNN
from segjax.ops.crf.mean_field import CRFParams, dense_crf


def scene():
    """Two flat regions, noisy logits: a batch of [2, 10, 12]."""
    rng = np.random.default_rng(0)
    label = np.zeros((2, 10, 12), int)
    label[0, :, 7:] = 1
    label[1, 4:] = 1
    image = (np.array([[60, 60, 60], [120, 90, 60]])[label] + rng.integers(-1, 2, (2, 10, 12, 3))).astype(np.uint8)
    logits = (np.eye(2)[label] + rng.normal(0, 1, (2, 10, 12, 2))).astype(np.float32)
    return logits, image, label


def test_it_starts_as_the_dense_crf_and_trains_with_fewer_iterations():
    logits, image, _ = scene()
    layer = CRFasRNN(theta_alpha=20.0)
    variables = layer.init(jax.random.key(0), logits, image)
    assert {k: v.shape for k, v in variables["params"].items()} == {
        "spatial_weight": (2, 2),
        "bilateral_weight": (2, 2),
        "compatibility": (2, 2),
    }
    params = CRFParams(20.0, 3.0, 3.0, 5.0, 3.0)
    for train, iterations in ((True, 5), (False, 10)):
        expected = dense_crf(logits, image, params, iterations=iterations, normalization="after")
        np.testing.assert_allclose(layer.apply(variables, logits, image, train), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_reach_every_parameter():
    logits, image, label = scene()
    layer = CRFasRNN(theta_alpha=20.0, train_iterations=3, method="lattice")
    params = layer.init(jax.random.key(0), logits, image)["params"]
    optimizer = optax.adam(0.05)

    def loss(params):
        out = layer.apply({"params": params}, logits, image, True)
        return optax.softmax_cross_entropy_with_integer_labels(out, jnp.asarray(label)).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value, gradient

    state, values = optimizer.init(params), []
    for _ in range(5):
        params, state, value, gradient = step(params, state)
        values.append(float(value))
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    assert values[-1] < values[0]
