"""What holds for every encoder; what one family adds is beside this file."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError
from segjax.models.encoders import ENCODERS, create_encoder

TINY = {
    "resnet_test": {},
    "resnet50": dict(blocks=(1, 1, 2, 2), width=4),
    "mobilenetv2_test": {},
    "xception39_test": {},
    "vgg16": dict(depths=(1, 1, 1, 1, 2), widths=(4, 4, 6, 6, 8)),
}


def test_the_table_names_every_variant_of_every_family():
    found = {}
    for family in set(ENCODERS.values()):
        module = importlib.import_module(f"segjax.models.encoders.{family}")
        found.update(dict.fromkeys(module.VARIANTS, family))
    assert found == ENCODERS


# Transformers have one output stride, their attention has no rate; so has HRNet, whose streams exchange at fixed ones.
CONVOLUTIONAL = {name: family for name, family in sorted(ENCODERS.items()) if family not in ("mit", "vit")}
STRIDED = [
    (name, stride) for name, f in CONVOLUTIONAL.items() for stride in (8, 16, 32) if stride == 32 or f != "hrnet"
]


@pytest.mark.parametrize(("name", "output_stride"), STRIDED)
def test_strides_channels_and_dtype(name, output_stride, shapes_of):
    encoder = create_encoder(name, output_stride, jnp.bfloat16)
    variables, _, features = shapes_of(encoder)
    assert {4, 8, 16, 32} <= features.keys() == encoder.channels.keys()
    for stride, channels in encoder.channels.items():
        side = 64 // min(stride, output_stride)
        assert features[stride].shape == (1, side, side, channels)
        assert features[stride].dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("name", sorted(TINY))
def test_output_stride_changes_no_parameter(name, shapes_of):
    dense, strided = (shapes_of(create_encoder(name, s, **TINY[name]))[0] for s in (8, 32))
    assert jax.tree.map(lambda leaf: leaf.shape, dense) == jax.tree.map(lambda leaf: leaf.shape, strided)


@pytest.mark.parametrize("name", sorted(TINY))
def test_atrous_features_contain_the_strided_ones(name, random_variables):
    """Every position the strided network visits has the same value in the atrous one, the borders included."""
    x = jax.random.normal(jax.random.key(1), (1, 64, 96, 3))
    dense, strided = (create_encoder(name, stride, **TINY[name]) for stride in (8, 32))
    variables = random_variables(strided, x)
    fine = jax.jit(lambda v, x: dense.apply(v, x, False))(variables, x)
    coarse = jax.jit(lambda v, x: strided.apply(v, x, False))(variables, x)
    for stride, reference in coarse.items():
        step = stride // min(stride, 8)
        assert float(jnp.std(reference)) > 1e-3
        np.testing.assert_allclose(fine[stride][:, ::step, ::step], reference, rtol=1e-4, atol=1e-4)


def test_hrnet_refuses_an_output_stride(shapes_of):
    with pytest.raises(ModelError, match="output_stride=8 is impossible for HRNet: use 32"):
        shapes_of(create_encoder("hrnet_test", 8))


def test_an_unknown_encoder_suggests_the_nearest():
    with pytest.raises(ModelError, match=r"'resnet51' is unknown\. Did you mean 'resnet5?0?1?"):
        create_encoder("resnet51")


def test_an_unknown_field_is_named():
    with pytest.raises(ModelError, match=r"'mobilenetv2' has no field 'multi_grid'"):
        create_encoder("mobilenetv2", multi_grid=(1, 2, 4))
