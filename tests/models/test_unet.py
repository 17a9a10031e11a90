"""What is particular about U-Net: valid convolutions, mirroring."""

from __future__ import annotations

import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ModelError, SizeError
from segjax.core.registry import create_model

KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def traced(model, size):
    images = jax.ShapeDtypeStruct((1, *size, model.in_channels), jnp.float32)
    return jax.eval_shape(model.init_with_output, KEYS, images)


def test_572_pixels_become_388_as_in_figure_1():
    model = create_model("unet/original", 2, in_channels=1, mirror=False)
    assert traced(model, (572, 572))[0]["logits"].shape == (1, 388, 388, 2)
    assert model.valid_size(572) == 388


@pytest.mark.parametrize("size", [570, 571, 100, 139, 1])
def test_valid_convolutions_that_do_not_fit_name_a_size_that_does(size):
    model = create_model("unet/original", 2, mirror=False)
    with pytest.raises(SizeError) as error:
        traced(model, (size, 572))
    fitting = int(str(error.value).rsplit(" ", 1)[1])
    assert size < fitting <= max(size + 16, 188)
    assert traced(model, (fitting, 572))[0]["logits"].shape[1] == model.valid_size(fitting) > 0


def test_unknown_padding():
    with pytest.raises(ModelError, match="'reflect' is unknown"):
        traced(create_model("unet/test", 2, padding="reflect"), (16, 16))


def test_patches_are_channels_before_and_sub_pixels_after():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(1, 16, 24, 3)), jnp.float32)
    model, inner = create_model("unet/test", 5, patch=2), create_model("unet/test", 5 * 4, in_channels=3 * 4)
    variables = inner.init(KEYS, jnp.zeros((1, 8, 12, 12)))
    channels = einops.rearrange(images, "b (h i) (w j) c -> b h w (i j c)", i=2, j=2)
    scores = inner.apply(variables, channels)["logits"].values
    logits = einops.rearrange(scores, "b h w (i j k) -> b (h i) (w j) k", i=2, j=2)
    np.testing.assert_array_equal(model.apply(variables, images)["logits"].upsample(), logits)
    assert model.stride == 8
    with pytest.raises(ModelError, match="patch 2 needs padding 'same'"):
        traced(create_model("unet/test", 2, patch=2, padding="valid"), (64, 64))


@functools.cache
def mirrored():
    """A small valid U-Net, its variables, and its compiled forward with and without mirroring."""
    fields = {"padding": "valid", "norm": False, "dropout": 0.0}
    model, raw = (create_model("unet/test", 3, mirror=mirror, **fields) for mirror in (True, False))
    shapes = traced(model, (32, 32))[1]
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.2, jnp.float32), shapes)
    return model, raw, variables, jax.jit(model.apply), jax.jit(raw.apply)


def test_mirroring_is_the_overlap_tile_strategy():
    """Away from the border mirrored logits equal those of the raw network on the image itself; at the border, those of
    the raw network on an image that numpy mirrored."""
    model, raw, variables, run, run_raw = mirrored()
    image = np.random.default_rng(1).normal(size=(1, 48, 64, 3)).astype(np.float32)
    out = np.asarray(run(variables, image)["logits"].values)
    assert out.shape == (1, 48, 64, 3)
    before, after = model._border(48)
    wide = np.pad(image, ((0, 0), (before, after), (before, after), (0, 0)), mode="reflect")
    whole = np.asarray(run_raw(variables, wide)["logits"].values)
    rows, columns = ((n - wanted) // 2 for n, wanted in zip(whole.shape[1:3], (48, 64)))
    np.testing.assert_allclose(out, whole[:, rows : rows + 48, columns : columns + 64], rtol=1e-4, atol=1e-5)

    # The raw network on the image: its logits stand where the mirrored ones do, the lost border aside.
    size = 44, 60
    assert [raw.valid_size(n) for n in size] == [4, 20]
    part = np.asarray(run_raw(variables, image[:, :44, :60])["logits"].values)
    assert part.shape == (1, 4, 20, 3)
    np.testing.assert_allclose(part, out[:, 20:24, 20:40], rtol=1e-4, atol=1e-5)


def test_shifting_the_padded_image_by_the_stride_shifts_the_logits():
    model, _, variables, run, _ = mirrored()
    stride = model.stride
    image = np.random.default_rng(2).normal(size=(1, 80, 48, 3)).astype(np.float32)
    out = np.asarray(run(variables, image[:, stride:-stride])["logits"].values)
    moved = np.asarray(run(variables, image[:, : -2 * stride])["logits"].values)
    middle = slice(24, 40)
    np.testing.assert_allclose(
        out[:, middle], moved[:, middle.start + stride : middle.stop + stride], rtol=1e-4, atol=1e-5
    )


def test_dropout_stands_at_the_end_of_the_contracting_path():
    model = create_model("unet/test", 2)
    images = jnp.zeros((1, 16, 16, 3))
    variables = traced(model, (16, 16))[1]
    program = str(
        jax.make_jaxpr(lambda v, x, key: model.apply(v, x, train=True, rngs={"dropout": key}, mutable=["batch_stats"]))(
            variables, images, jax.random.key(0)
        )
    )
    assert program.count("random_bits[") == 2
