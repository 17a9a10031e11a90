from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.registry import create_model
from segjax.nn.head import upsample_from_grid

# Trainable parameters of the authors' Caffe networks at 21 classes.
PUBLISHED = [("largefov", 20_505_429), ("msc-largefov", 21_711_550)]


def _shapes(model, size=(33, 49)):
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    return jax.eval_shape(lambda k, x: model.init_with_output(k, x), jax.random.key(0), images)


@pytest.mark.parametrize(("variant", "parameters"), PUBLISHED)
def test_parameters_of_published_layouts(variant, parameters):
    _, variables = _shapes(create_model(f"deeplabv1/{variant}", 21))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == parameters


@pytest.mark.parametrize("size", [(8, 9), (32, 64), (65, 71)])
def test_any_size(size):
    assert _shapes(create_model("deeplabv1/test", 5), size)[0]["logits"].shape == (1, *size, 5)


def test_scores_lie_on_every_eighth_pixel_whatever_the_size():
    scores = jnp.broadcast_to(8.0 * jnp.arange(5.0)[:, None, None], (1, 5, 3, 1))
    logits = upsample_from_grid(scores, 8, (28, 17))
    np.testing.assert_allclose(logits[0, :, :, 0], np.broadcast_to(np.arange(28.0)[:, None], (28, 17)), atol=1e-5)
