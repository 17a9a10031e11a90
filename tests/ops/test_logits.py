"""Logits stand for their bilinear interpolation, under jit too, and are left alone where they have every pixel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.logits import Logits, upsampled

SIZE = (11, 16)


def values(rows=3, columns=4):
    return np.random.default_rng(0).normal(size=(2, rows, columns, 5)).astype(np.float32)


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_is_that_of_pytorch(align_corners):
    torch = pytest.importorskip("torch")
    interpolate = torch.nn.functional.interpolate
    theirs = torch.from_numpy(values().transpose(0, 3, 1, 2))
    theirs = interpolate(theirs, SIZE, mode="bilinear", align_corners=align_corners).numpy().transpose(0, 2, 3, 1)
    ours = jax.jit(Logits.upsample)(Logits(jnp.asarray(values()), SIZE, align_corners))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_shape_is_known_without_upsampling():
    coarse = jax.eval_shape(lambda x: Logits(x, SIZE), values())
    assert coarse.shape == (2, *SIZE, 5)
    assert not coarse.full_size


def test_full_size_values_are_returned_as_they_are():
    full = Logits(jnp.asarray(values(*SIZE)), SIZE, align_corners=True)
    assert full.full_size
    assert full.upsample() is full.values


def test_a_networks_outputs_are_upsampled_wherever_they_stand():
    coarse, other = Logits(jnp.asarray(values()), SIZE), jnp.ones(3)
    found = upsampled({"logits": coarse, "aux_logits": (coarse, coarse), "features": {4: other}})
    assert [x.shape for x in (found["logits"], *found["aux_logits"])] == [(2, *SIZE, 5)] * 3
    assert found["features"][4] is other
