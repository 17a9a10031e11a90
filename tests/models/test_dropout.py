"""Dropout told from outside draws what a network's own does."""

from __future__ import annotations

import jax
import numpy as np

from segjax.core.registry import create_model
from segjax.models.dropout import WithDropout, dropout_rates
from segjax.training.state import init_variables


def test_rates_by_path() -> None:
    rates = dropout_rates(create_model("erfnet/test", num_classes=2, dropout=0.25, first_dropout=0.125))
    assert set(rates.values()) == {0.25, 0.125, 0.0}  # none in the decoder
    assert dropout_rates(create_model("unet/test", num_classes=2, dropout=0.0)) == {}


def test_traced_rates_equal_the_networks_own() -> None:
    name = "unet/test"
    own = create_model(name, num_classes=2, dropout=0.3)
    other = create_model(name, num_classes=2, dropout=0.9)
    assert dropout_rates(own).keys() == dropout_rates(other).keys()
    side = 2 * own.stride
    variables = init_variables(own, 0, (side, side, 3))
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)

    def logits(model):
        settings = dict(train=True, rngs={"dropout": jax.random.key(5)}, mutable=["batch_stats"])
        return model.apply(variables, images, **settings)[0]["logits"].upsample()

    told = jax.jit(lambda rates: logits(WithDropout(other, rates)))
    expected = np.asarray(jax.jit(lambda: logits(own))())
    np.testing.assert_allclose(told(dropout_rates(own)), expected, rtol=1e-5, atol=1e-5)
    assert np.abs(np.asarray(told(dropout_rates(other))) - expected).max() > 1e-3
    none = dict.fromkeys(dropout_rates(own), 0.0)
    np.testing.assert_allclose(
        told(none),
        jax.jit(lambda: logits(create_model(name, num_classes=2, dropout=0.0)))(),
        rtol=1e-5,
        atol=1e-5,
    )
