from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.registry import create_model

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


def test_an_image_cut_off_beyond_the_last_score_gives_the_same_logits_far_from_the_cut():
    model = create_model("deeplabv1/test", 2, fc_rate=1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 97, 17, 3)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    whole, cut = (jax.jit(model.apply)(variables, x[:, :rows])["logits"] for rows in (97, 92))
    np.testing.assert_allclose(cut[:, :8], whole[:, :8], rtol=1e-5, atol=1e-7)
