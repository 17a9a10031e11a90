from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from segjax.nn.encoding import ContextEncoding, Encoding


def test_encoding_equals_the_sums_of_its_definition():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    layer = Encoding(6)
    variables = layer.init(jax.random.key(0), x)
    codewords, smoothing = (np.asarray(variables["params"][name], np.float64) for name in ("codewords", "smoothing"))
    assert codewords.shape == (6, 5)
    assert np.abs(codewords).max() <= 30**-0.5
    assert ((smoothing >= -1) & (smoothing <= 0)).all()
    residuals = x.reshape(2, 12, 1, 5) - codewords
    weights = np.exp(smoothing * np.square(residuals).sum(-1))
    shares = weights / weights.sum(-1, keepdims=True)
    expected = (shares[..., None] * residuals).sum(1)
    np.testing.assert_allclose(layer.apply(variables, x), expected, rtol=1e-4, atol=1e-4)


def test_context_encoding_scales_whole_channels():
    layer = ContextEncoding(4)
    x = jax.random.uniform(jax.random.key(0), (2, 6, 5, 8), minval=0.5)
    variables = layer.init(jax.random.key(1), x, False)
    ratio = layer.apply(variables, x, False) / x
    assert ((ratio > 0.999) & (ratio < 2.001)).all()
    np.testing.assert_allclose(ratio, jnp.broadcast_to(ratio[:, :1, :1], x.shape), rtol=1e-5)
