from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.registry import create_model
from segjax.models.semantic.parsenet import UnitLength


# DeepLab-LargeFOV's Caffe network; with a context of 1024 channels, and a factor a channel for both.
@pytest.mark.parametrize(("variant", "parameters"), [("baseline", 20_505_429), ("vgg16", 20_505_429 + 23 * 1024)])
def test_parameters_by_layer(variant, parameters):
    model = create_model(f"parsenet/{variant}", 21)
    variables = jax.eval_shape(model.init, jax.random.key(0), model.example)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == parameters


def test_unit_length_of_pixels_and_a_finite_gradient_at_zero():
    module = UnitLength(2.0)
    x = jnp.asarray([[[[3.0, 4.0], [0.0, 0.0]]]])
    params = {"params": {"scale": jnp.asarray([2.0, 1.0])}}
    np.testing.assert_allclose(module.apply(params, x)[0, 0], [[1.2, 0.8], [0.0, 0.0]], rtol=1e-5)
    assert np.isfinite(jax.grad(lambda x: module.apply(params, x).sum())(x)).all()
