"""Augmentation: image and label stay together, and each option does what it says and nothing else."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE, IMAGE, LABEL, SIZE, VALID, DatasetInfo
from segjax.data.augment import make_train_transform, normalize, window_size
from segjax.data.options import Augment

MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
INFO = DatasetInfo("toy", ("a", "b"), ((0, 0, 0), (1, 1, 1)), mean=MEAN, std=STD)
PLAIN = Augment(flip=False)


@functools.cache
def _transform(augment, crop, channels=3):
    info = (
        INFO
        if channels == 3
        else DatasetInfo(
            "toy", INFO.classes, INFO.palette, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
        )
    )
    return jax.jit(make_train_transform(augment, info, crop))


def _batch(count=8, size=(24, 32), seed=0, channels=3, sizes=None):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, *size, channels), np.uint8)
    label = rng.integers(0, 2, (count, *size)).astype(np.uint8)
    batch = {IMAGE: image, LABEL: label, VALID: np.ones(count, bool)}
    return batch if sizes is None else batch | {SIZE: np.asarray(sizes, np.int32)}


def _pixels(out, info=INFO):
    return np.asarray(out[IMAGE]) * np.asarray(info.std, np.float32) + np.asarray(info.mean, np.float32)


def test_switched_off_is_plain_normalisation():
    batch = _batch()
    out = _transform(PLAIN, (24, 32))(jax.random.key(0), batch)
    expected = (batch[IMAGE].astype(np.float64) - MEAN) / STD
    np.testing.assert_allclose(out[IMAGE], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(out[IMAGE], normalize(jnp.asarray(batch[IMAGE]), MEAN, STD))
    np.testing.assert_array_equal(out[LABEL], batch[LABEL])
    assert out[IMAGE].dtype == jnp.float32
    assert out[LABEL].dtype == jnp.uint8
    assert set(out) == {IMAGE, LABEL, VALID}


def test_channels_are_turned_round_after_the_colours_changed():
    """Mean and deviation are listed in the network's order; saturation still knows which channel is red."""
    bgr = dataclasses.replace(INFO, channel_order="bgr")
    batch = _batch()
    plain = make_train_transform(PLAIN, bgr, (24, 32))(jax.random.key(0), batch)
    expected = (batch[IMAGE][..., ::-1].astype(np.float64) - MEAN) / STD
    np.testing.assert_allclose(plain[IMAGE], expected, rtol=1e-6, atol=1e-6)
    grey = dataclasses.replace(PLAIN, saturation=1.0, hue=0.3)
    found = {info.channel_order: make_train_transform(grey, info, (24, 32))(jax.random.key(1), batch)[IMAGE]
             for info in (INFO, bgr)}  # fmt: skip
    pixels = {order: np.asarray(value) * np.float32(STD) + np.float32(MEAN) for order, value in found.items()}
    np.testing.assert_allclose(pixels["bgr"][..., ::-1], pixels["rgb"], atol=1e-3)


def test_image_and_label_stay_aligned():
    """The label is written into the image, in blocks: where the image is pure, label and image must agree."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 4, (16, 6, 8)).astype(np.uint8)
    label = blocks.repeat(8, axis=1).repeat(8, axis=2)
    image = np.repeat(label[..., None] * 60, 3, axis=-1)
    batch = {IMAGE: image, LABEL: label, VALID: np.ones(16, bool)}
    out = _transform(Augment(scale=(0.5, 2.0)), (40, 40))(jax.random.key(3), batch)
    shown, given = _pixels(out)[..., 0], np.asarray(out[LABEL])
    seen = given != IGNORE
    assert np.all(np.abs(_pixels(out)[~seen] - MEAN) < 1e-3)
    # Nearest and bilinear agree wherever all four neighbours are equal; elsewhere they are at most half a step apart
    # in each direction, so between the labels nearby.
    pure = seen & (np.abs(shown / 60 - np.rint(shown / 60)) < 1e-3)
    assert pure.sum() > 0.5 * seen.sum()
    wrong = np.abs(shown / 60 - given)[pure] > 1e-3
    # A blend of two labels may happen to equal a third one (0 and 2 give 1): a thin share, on borders only.
    assert wrong.mean() < 0.02


def test_zoomed_ramp_matches_its_label():
    """On a linear ramp bilinear sampling is exact: label (the pixel's number) and image may differ by half a pixel."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8), (8, 48, 64))
    image = np.stack([ramp, ramp, np.broadcast_to(np.arange(48, dtype=np.uint8)[:, None], (8, 48, 64))], -1)
    batch = {IMAGE: image, LABEL: ramp, VALID: np.ones(8, bool)}
    out = _transform(Augment(scale=(0.7, 2.0)), (32, 32))(jax.random.key(1), batch)
    seen = np.asarray(out[LABEL]) != IGNORE
    assert seen.mean() > 0.9
    difference = _pixels(out)[..., 0] - np.asarray(out[LABEL])
    assert np.abs(difference[seen]).max() <= 0.5 + 1e-3
    # Columns run at a constant pace of 1 / scale, within the asked range, up or down by the flip.
    pace = np.abs(np.diff(_pixels(out)[:, 16, 8:24, 0], axis=1)).mean(1)
    assert np.all((pace > 1 / 2.0 - 1e-3) & (pace < 1 / 0.7 + 1e-3))
    assert pace.std() > 0.05
    rows = np.abs(np.diff(_pixels(out)[:, 8:24, 16, 2], axis=1)).mean(1)
    np.testing.assert_allclose(rows, pace, atol=1e-3)


def test_scale_is_log_uniform():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8), (512, 4, 32))
    batch = {IMAGE: np.stack([ramp] * 3, -1), LABEL: ramp, VALID: np.ones(512, bool)}
    out = _transform(Augment(flip=False, scale=(1.0, 4.0)), (4, 8))(jax.random.key(0), batch)
    values = _pixels(out)[:, 2, :, 0]
    pace = np.diff(values, axis=1)[:, 3]  # between the middle columns, which the border never clips
    logs = np.log(1 / pace) / math.log(4.0)
    assert logs.min() >= -1e-3
    assert logs.max() <= 1 + 1e-3
    counts, _ = np.histogram(logs, bins=4, range=(-1e-3, 1 + 1e-3))
    assert counts.min() > 85  # 128 expected, deviation 9.8


def test_scale_one_crops_whole_pixels():
    batch = _batch(size=(20, 20))
    out = _transform(PLAIN, (12, 14))(jax.random.key(5), batch)
    windows = np.lib.stride_tricks.sliding_window_view(batch[LABEL], (12, 14), axis=(1, 2))
    for index in range(8):
        found = (windows[index] == np.asarray(out[LABEL][index])).all((2, 3))
        top, left = np.argwhere(found)[0]
        crop = batch[IMAGE][index, top : top + 12, left : left + 14]
        np.testing.assert_allclose(_pixels(out)[index], crop, atol=1e-3)


def test_flip_has_probability_one_half():
    batch = _batch(count=400, size=(2, 6))
    out = _transform(Augment(), (2, 6))(jax.random.key(2), batch)
    pixels = np.rint(_pixels(out)).astype(np.uint8)
    same = (pixels == batch[IMAGE]).all((1, 2, 3))
    mirrored = (pixels == batch[IMAGE][:, :, ::-1]).all((1, 2, 3))
    assert np.all(same ^ mirrored)
    assert 150 < mirrored.sum() < 250  # 200 expected, deviation 10
    np.testing.assert_array_equal(np.asarray(out[LABEL])[mirrored], batch[LABEL][mirrored][:, :, ::-1])
    np.testing.assert_array_equal(np.asarray(out[LABEL])[same], batch[LABEL][same])


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_changes_the_image_only(name):
    batch = _batch()
    out = _transform(Augment(flip=False, **{name: 0.4}), (24, 32))(jax.random.key(0), batch)
    np.testing.assert_array_equal(out[LABEL], batch[LABEL])
    pixels = _pixels(out)
    assert np.abs(pixels - batch[IMAGE]).mean() > 2
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255 + 1e-3
    assert np.isfinite(pixels).all()


def test_what_colour_preserves():
    grey = np.repeat(np.random.default_rng(0).integers(60, 200, (6, 8, 8, 1), np.uint8), 3, -1)
    batch = {IMAGE: grey, LABEL: grey[..., 0], VALID: np.ones(6, bool)}
    for augment in (Augment(flip=False, saturation=0.9), Augment(flip=False, hue=0.5)):
        out = _transform(augment, (8, 8))(jax.random.key(0), batch)
        np.testing.assert_allclose(_pixels(out), grey, atol=2e-3)
    out = _pixels(_transform(Augment(flip=False, brightness=0.2), (8, 8))(jax.random.key(0), batch))
    ratio = out / grey
    assert np.ptp(ratio, axis=(1, 2, 3)).max() < 1e-3  # one factor an image
    assert np.ptp(ratio[:, 0, 0, 0]) > 0.02  # another one for each
    out = _pixels(_transform(Augment(flip=False, contrast=0.2), (8, 8))(jax.random.key(0), batch))
    np.testing.assert_allclose(out.mean((1, 2, 3)), grey.mean((1, 2, 3)), rtol=1e-4)


def test_hue_turns_red_towards_green():
    from segjax.data.augment import _rotate_hue

    red = jnp.asarray([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    turned = _rotate_hue(red, jnp.full((1, 1, 1, 1), 2 * math.pi / 3))
    np.testing.assert_allclose(turned.ravel(), [0, 1, 0], atol=1e-6)


def test_padding_is_void_and_zero():
    batch = _batch(count=4, size=(16, 16), sizes=[(16, 16), (8, 16), (16, 7), (5, 5)])
    out = _transform(Augment(brightness=0.5), (16, 16))(jax.random.key(1), batch)
    void = np.asarray(out[LABEL]) == IGNORE
    np.testing.assert_array_equal(void.sum((1, 2)), [0, 128, 144, 231])
    assert np.all(np.asarray(out[IMAGE])[void] == 0)
    assert not void[1, :8].any()


def test_no_view_lies_wholly_outside_a_small_image():
    batch = _batch(count=64, size=(32, 32), sizes=[(9, 11)] * 64)
    out = _transform(Augment(scale=(0.5, 2.0)), (16, 16))(jax.random.key(1), batch)
    seen = np.asarray(out[LABEL]) != IGNORE
    # Any view is at least 8 pixels long and lies inside the image, or around it.
    assert seen.sum((1, 2)).min() >= (9 * 0.5 - 1) * (11 * 0.5 - 1)
    assert np.isfinite(out[IMAGE]).all()


def test_the_window_may_be_smaller_than_the_crop():
    batch = _batch(size=(10, 12))
    out = _transform(Augment(flip=False), (16, 16))(jax.random.key(1), batch)
    seen = np.asarray(out[LABEL]) != IGNORE
    np.testing.assert_array_equal(seen.sum((1, 2)), [120] * 8)
    np.testing.assert_allclose(_pixels(out)[seen], batch[IMAGE].reshape(-1, 3), atol=1e-3)


def test_deterministic_by_key():
    batch, step = _batch(), _transform(Augment(scale=(0.5, 2.0), brightness=0.2), (16, 16))
    one, two, three = (step(jax.random.key(k), batch) for k in (1, 1, 2))
    np.testing.assert_array_equal(one[IMAGE], two[IMAGE])
    assert not np.array_equal(one[IMAGE], three[IMAGE])


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channels(channels):
    batch = _batch(channels=channels)
    batch[IMAGE] = batch[IMAGE].astype(np.float32)
    augment = Augment(scale=(0.5, 2.0), brightness=0.2, contrast=0.2)
    out = _transform(augment, (16, 16), channels)(jax.random.key(1), batch)
    assert out[IMAGE].shape == (8, 16, 16, channels)
    assert np.isfinite(out[IMAGE]).all()
    info = DatasetInfo(
        "x", INFO.classes, INFO.palette, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels
    )
    with pytest.raises(ConfigError, match=r"config\.augment\.hue: the images have"):
        make_train_transform(Augment(hue=0.1), info, (16, 16))


def test_window_size():
    assert window_size((10, 20), (1.0, 2.0)) == (10, 20)
    assert window_size((10, 20), (0.7, 2.0)) == (15, 29)
    assert window_size((10, 20), (0.5, 2.0), largest=(16, 100)) == (16, 40)
    assert window_size((10, 20), (1.0, 1.0), largest=(8, 100)) == (8, 20)


def test_split_over_devices_it_needs_no_communication_and_gives_the_same():
    code = """
import re, jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from segjax.data.options import Augment
from segjax.core.schema import DatasetInfo
from segjax.data.augment import make_train_transform
info = DatasetInfo("toy", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
step = jax.jit(make_train_transform(Augment(scale=(0.5, 2.0), contrast=0.3), info, (8, 8)))
rng = np.random.default_rng(0)
batch = {
    "image": rng.integers(0, 256, (4, 16, 16, 3), np.uint8),
    "label": rng.integers(0, 2, (4, 16, 16)).astype(np.uint8),
    "valid": np.ones(4, bool),
}
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
compiled = step.lower(jax.random.key(0), split).compile()
found = re.findall(r"(?:all-gather|all-reduce|all-to-all|collective-permute)\\(", compiled.as_text())
assert not found, found
one, many = step(jax.random.key(0), batch), compiled(jax.random.key(0), split)
np.testing.assert_array_equal(one["label"], many["label"])
np.testing.assert_allclose(one["image"], many["image"], atol=1e-5)
"""
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=flags)
    assert done.returncode == 0, done.stderr


def test_smooth_shrinking_is_pillows():
    """Views of whole images, of which one is smaller than its window, at two sizes; enlarging interpolates."""
    from PIL import Image

    from segjax.data.geometry import View

    image = np.random.default_rng(0).uniform(0, 255, (2, 50, 64, 3)).astype(np.float32)
    sizes = np.array([(50, 64), (33, 20)], np.int32)
    for height, width in ((17, 16), (40, 30)):
        rows = jnp.asarray((np.arange(height) + 0.5) * sizes[:, :1] / height, jnp.float32)
        columns = jnp.asarray((np.arange(width) + 0.5) * sizes[:, 1:] / width, jnp.float32)
        view = View(rows, columns[:, ::-1], None, jnp.asarray(sizes), smooth=True)  # mirrored
        found = np.asarray(view.image(jnp.asarray(image)))[:, :, ::-1]
        for one, shown, (h, w) in zip(image, found, sizes):
            for channel in range(3):
                band = Image.fromarray(one[:h, :w, channel])
                expected = band.resize((width, height), Image.Resampling.BILINEAR)
                np.testing.assert_allclose(shown[..., channel], np.asarray(expected), atol=1e-3)


def test_large_scale_jitter_is_relative_to_the_crop():
    """At scale 1 the longer side of every image, whatever its size, fills the crop; at 1/2 it fills half of it."""
    batch = _batch(count=3, size=(48, 64), sizes=[(48, 64), (40, 20), (12, 12)])
    for scale, sides in ((1.0, [(12, 16), (16, 8), (16, 16)]), (0.5, [(6, 8), (8, 4), (8, 8)])):
        augment = Augment(fit=True, scale=(scale, scale))
        out = _transform(augment, (16, 16))(jax.random.key(0), batch)
        seen = np.asarray(out[LABEL]) != IGNORE
        for index, (height, width) in enumerate(sides):
            assert seen[index].any(1).sum() == pytest.approx(height, abs=1)
            assert seen[index].any(0).sum() == pytest.approx(width, abs=1)
            assert np.all(np.abs(_pixels(out)[index][~seen[index]] - MEAN) < 1e-3)
    assert window_size((16, 16), (0.1, 2.0), largest=(48, 64), fit=True) == (48, 64)
    with pytest.raises(ConfigError, match=r"config\.augment\.fit: it shows whole images"):
        window_size((16, 16), (0.1, 2.0), fit=True)
