from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from segjax.core.registry import create_model
from segjax.models.base import init_shapes
from segjax.models.encoders import create_encoder


def test_parameters_equal_timm_without_its_classifier(shapes_of):
    assert shapes_of(create_encoder("xception65"))[1] == 39_916_312 - 2_049_000


def test_parameters_of_deeplabv3plus_equal_jfzhang95(shapes_of):
    params = init_shapes(create_model("deeplabv3plus", 21, encoder="xception65", separable=False))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 54_705_317


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_features_by_stride(output_stride):
    encoder = create_encoder("xception_test", output_stride)
    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    true = {key: min(key, output_stride) for key in (2, 4, 8, 16, 32)}
    assert {key: x.shape for key, x in features.items()} == {
        key: (2, 64 // s, 96 // s, encoder.channels[key]) for key, s in true.items()
    }
