from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.encoders import create_encoder


@pytest.mark.parametrize(("conv_bias", "count"), [(True, 14_723_136), (False, 14_718_912)])
def test_parameters_equal_torchvision_features(conv_bias, count, shapes_of):
    assert shapes_of(create_encoder("vgg16", conv_bias=conv_bias))[1] == count


@pytest.mark.parametrize(
    ("name", "count"),
    # torchvision's features; with its classifier's first two layers, from which fc6 and fc7 are made.
    [("vgg16_plain", 14_714_688), ("vgg19_plain", 20_024_384), ("vgg16_fc", 134_260_544), ("vgg19_fc", 139_570_240)],
)
def test_parameters_without_normalisation(name, count, shapes_of):
    assert shapes_of(create_encoder(name))[1] == count


def test_poolings_of_caffe_keep_partial_windows(shapes_of):
    small = dict(norm=False, depths=(1, 1), widths=(4, 4))
    sides = lambda **fields: shapes_of(create_encoder("vgg16", 4, **small, **fields), 13)[2][4].shape[1]  # noqa: E731
    assert (sides(), sides(ceil_pool=True), sides(window=3)) == (3, 4, 4)


def test_stages_alone_are_the_encoder_between_its_poolings(random_variables):
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
    encoder = create_encoder("vgg16", 4, depths=(1, 2), widths=(4, 6))
    variables = random_variables(encoder, x)
    features = encoder.apply(variables, x, False)
    first = encoder.apply(variables, x, 0, method="stage")
    np.testing.assert_array_equal(features[1], first)
    pooled = first.reshape(1, 8, 2, 8, 2, 4).max((2, 4))
    np.testing.assert_allclose(features[2], encoder.apply(variables, pooled, 1, method="stage"), rtol=1e-6)


def test_dense_pooling_passes_the_whole_gradient_to_one_pixel_of_a_tie():
    encoder = create_encoder("vgg16", 1, depths=(1,), widths=(1,))
    x = jnp.zeros((1, 4, 4, 1))
    variables = encoder.init(jax.random.key(0), x, False)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    variables["params"]["stages_0"]["conv1"]["conv"]["kernel"] = kernel
    gradient = jax.grad(lambda x: encoder.apply(variables, x, False)[2].sum())(jnp.ones_like(x))
    np.testing.assert_allclose(gradient[0, :, :, 0], np.ones((4, 4)), rtol=1e-4)
