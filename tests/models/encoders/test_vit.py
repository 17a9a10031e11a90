from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.models.encoders import create_encoder
from segjax.models.encoders.vit import position_map

# (name, fields, parameters): torchvision's and timm's ViT without the classifier, for 224 and 384 pixels.
PUBLISHED = [
    ("vit_b16", {}, 86_567_656 - 769_000),
    ("vit_l16", {}, 304_326_632 - 1_025_000),
    ("vit_b16", dict(grid=24), 86_859_496 - 769_000),
    ("vit_l16", dict(grid=24), 304_715_752 - 1_025_000),
]


@pytest.mark.parametrize(("name", "fields", "expected"), PUBLISHED)
def test_parameters_do_not_depend_on_the_image(name, fields, expected, shapes_of):
    encoder = create_encoder(name, dtype=jnp.bfloat16, **fields)
    for size in (64, 224):
        _, count, features = shapes_of(encoder, size)
        assert count == expected
        assert features[16].shape == (1, size // 16, size // 16, encoder.width)
        assert features[16].dtype == jnp.bfloat16


def test_a_smaller_output_stride_than_the_patch_is_refused(shapes_of):
    with pytest.raises(ModelError, match="output_stride=8 is impossible for ViT"):
        shapes_of(create_encoder("vit_test", 8))


def test_the_position_embedding_is_resized_to_the_image():
    ramp = np.broadcast_to(np.linspace(-1, 1, 4)[:, None, None], (4, 4, 12)).astype(np.float32)
    stored = ramp.reshape(16, 12)
    np.testing.assert_array_equal(position_map(stored, 4, 4), ramp)
    finer = np.asarray(position_map(stored, 8, 6))
    np.testing.assert_allclose(finer, np.broadcast_to(finer[:, :1, :1], (8, 6, 12)), atol=1e-6)
    assert (np.diff(finer[:, 0, 0]) > 0).all()
    assert finer[0, 0, 0] + finer[-1, 0, 0] == pytest.approx(0, abs=1e-6)


def test_the_class_token_takes_part_in_the_attention(random_variables):
    x = jax.random.normal(jax.random.key(0), (1, 32, 48, 3))
    encoder = create_encoder("vit_test")
    variables = random_variables(encoder, x)
    before = encoder.apply(variables, x, False)[16]
    variables["params"]["class_token"] = variables["params"]["class_token"] + np.linspace(-9, 9, 12, dtype=np.float32)
    assert float(jnp.abs(encoder.apply(variables, x, False)[16] - before).max()) > 1e-3
