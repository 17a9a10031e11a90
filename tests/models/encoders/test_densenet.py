from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.models.encoders import create_encoder
from segjax.models.encoders.atrous import Stage
from segjax.models.encoders.densenet import _halved

# torchvision's, less its classifier.
TORCHVISION = {
    "densenet121": 7_978_856 - 1_025_000,
    "densenet161": 28_681_000 - 2_209_000,
    "densenet169": 14_149_480 - 1_665_000,
}


@pytest.mark.parametrize("name", sorted(TORCHVISION))
def test_parameters_equal_torchvision_without_its_classifier(name, shapes_of):
    assert shapes_of(create_encoder(name))[1] == TORCHVISION[name]


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_features_by_stride(output_stride):
    encoder = create_encoder("densenet_test", output_stride)
    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    true = {key: min(key, output_stride) for key in (2, 4, 8, 16, 32)}
    assert {key: x.shape for key, x in features.items()} == {
        key: (2, 64 // s, 96 // s, encoder.channels[key]) for key, s in true.items()
    }


def test_the_pooling_without_stride_holds_the_strided_one():
    x = jax.random.normal(jax.random.key(0), (1, 8, 12, 2))
    strided, dense = _halved(x, Stage(2, 1, 1)), _halved(x, Stage(1, 1, 2))
    np.testing.assert_allclose(dense[:, ::2, ::2], strided, atol=1e-6)
