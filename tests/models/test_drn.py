from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.registry import create_model
from segjax.models.base import init_shapes
from segjax.models.encoders import create_encoder
from segjax.models.semantic.drn import _towards_zeros
from segjax.ops.resize import resize_matrix

# Trainable parameters and running statistics of fyu/drn's DRNSeg at 19 classes; of c-58 without a projection that its
# seventh level holds and never adds, 2048 * 512 + 2 * 512.
PUBLISHED = [
    ("c-26", 20_623_331, 13_984),
    ("c-58", 41_088_355 - 1_049_600, 58_400 - 1_024),
    ("d-22", 15_890_499, 11_776),
    ("d-24", 20_611_139, 13_824),
    ("d-54", 35_305_923, 55_168),
]


def _count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(("variant", "parameters", "statistics"), PUBLISHED)
def test_parameters_of_published_layouts(variant, parameters, statistics):
    variables = init_shapes(create_model(f"drn/{variant}", 19))
    assert _count(variables["params"]) == parameters
    assert _count(variables["batch_stats"]) == statistics


def test_parameters_of_drn_a_are_those_of_resnet50():
    assert _count(init_shapes(create_model("drn/a-50", 19))["params"]) == 23_508_032 + 19 * 2049


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_features_by_stride(output_stride):
    encoder = create_encoder("drn_test", output_stride)
    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    features, _ = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    true = {key: min(key, output_stride) for key in (1, 2, 4, 8, 16, 32)}
    assert {key: x.shape for key, x in features.items()} == {
        key: (2, 64 // s, 96 // s, encoder.channels[key]) for key, s in true.items()
    }


def test_the_upsampling_is_bilinear_inside_and_fades_at_the_border():
    matrix = _towards_zeros(5, 8)
    np.testing.assert_array_equal(matrix[4:-4], resize_matrix(5, 40)[4:-4])
    np.testing.assert_allclose(matrix[:4, 0], (np.arange(4) + 4.5) / 8, rtol=1e-6)
