from __future__ import annotations

import jax.numpy as jnp
import pytest

from segjax.core.errors import ModelError
from segjax.models.encoders import create_encoder

# NVlabs/SegFormer at 65fa8cfa, without a classifier.
PUBLISHED = {
    "mit_b0": 3_319_392,
    "mit_b1": 13_151_424,
    "mit_b2": 24_196_288,
    "mit_b3": 44_072_128,
    "mit_b4": 60_842_688,
    "mit_b5": 81_443_008,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_features(name, shapes_of):
    encoder = create_encoder(name, dtype=jnp.bfloat16)
    _, count, features = shapes_of(encoder)
    assert count == PUBLISHED[name]
    assert features.keys() == encoder.channels.keys() == {4, 8, 16, 32}
    for stride, channels in encoder.channels.items():
        assert features[stride].shape == (1, 64 // stride, 64 // stride, channels)
        assert features[stride].dtype == jnp.bfloat16


def test_another_output_stride_is_refused(shapes_of):
    with pytest.raises(ModelError, match="output_stride=16 is impossible for MiT"):
        shapes_of(create_encoder("mit_b0", 16))


def test_heads_that_do_not_divide_the_channels_are_refused(shapes_of):
    with pytest.raises(ModelError, match="heads=5 does not divide 8 channels"):
        shapes_of(create_encoder("mit_test", heads=(1, 5, 2, 3)))
