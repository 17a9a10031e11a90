"""Resizing each image of a batch by its own size, against float64 numpy, Pillow and OpenCV's documented formula."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from segjax.core.errors import ConfigError
from segjax.core.schema import IGNORE, DatasetInfo, Resize
from segjax.inference.predictor import Predictor
from segjax.inference.resized import resize_each
from tests.inference.pixel_network import INFO, PixelNet, images, variables

SIZES = ((12, 17), (7, 9), (1, 1), (12, 3))


def bilinear(image: np.ndarray, size: tuple[int, int], align_corners: bool = False) -> np.ndarray:
    """float64, each output pixel from its four neighbours; a pixel beyond the border is the border's."""
    for axis, after in enumerate(size):
        before = image.shape[axis]
        for_step = (before - 1) / max(after - 1, 1) if align_corners else before / after
        place = np.arange(after) * for_step if align_corners else (np.arange(after) + 0.5) * for_step - 0.5
        place = np.clip(place, 0, before - 1)
        low = np.minimum(np.floor(place).astype(int), max(before - 2, 0))
        high = np.minimum(low + 1, before - 1)
        share = (place - low).reshape([-1 if n == axis else 1 for n in range(3)])
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image


def batch() -> np.ndarray:
    """Images of SIZES in a canvas of 12x17; what is beyond them is large, so that it would be noticed."""
    found = np.full((len(SIZES), 12, 17, 3), 1e6, np.float32)
    for one, (height, width) in zip(found, SIZES):
        one[:height, :width] = np.random.default_rng(height * width).uniform(0, 255, (height, width, 3))
    return found


def run(after, size, **options):
    before, after = np.array(SIZES, np.int32), np.array(after, np.int32)
    return np.asarray(jax.jit(lambda x, b, a: resize_each(x, b, a, size, **options))(batch(), before, after))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.3])
def test_bilinear_is_float64s(factor, align_corners):
    after = [tuple(max(1, int(n * factor)) for n in size) for size in SIZES]
    found = run(after, (30, 40), align_corners=align_corners)
    for one, image, (height, width), size in zip(found, batch(), SIZES, after):
        expected = bilinear(image[:height, :width].astype(np.float64), size, align_corners)
        np.testing.assert_allclose(one[: size[0], : size[1]], expected, atol=1e-4)


def test_the_same_size_is_a_copy():
    found = run(SIZES, (16, 24))
    for one, image, (height, width) in zip(found, batch(), SIZES):
        np.testing.assert_array_equal(one[:height, :width], image[:height, :width])


def test_positions_stay_exact_in_a_wide_image():
    line = np.random.default_rng(0).uniform(0, 255, (1, 1, 9000, 1)).astype(np.float32)
    before, after = np.array([[1, 9000]], np.int32), np.array([[1, 4097]], np.int32)
    found = np.asarray(resize_each(line, before, after, (1, 4097)))
    np.testing.assert_allclose(found[0], bilinear(line[0].astype(np.float64), (1, 4097)), atol=1e-3)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_antialiased_is_pillows(method):
    after = [(5, 6), (3, 11), (2, 2), (4, 2)]
    found = run(after, (8, 12), method=method, antialias=True)
    for one, image, (height, width), size in zip(found, batch(), SIZES, after):
        for channel in range(3):
            plane = Image.fromarray(image[:height, :width, channel])
            expected = plane.resize(size[::-1], getattr(Image.Resampling, method.upper()))
            np.testing.assert_allclose(one[: size[0], : size[1], channel], np.asarray(expected), atol=2e-3)


@pytest.mark.parametrize(("method", "flag"), [("bicubic", "INTER_CUBIC"), ("bilinear", "INTER_LINEAR"),
                                              ("nearest", "INTER_NEAREST")])  # fmt: skip
def test_without_antialiasing_it_is_opencvs(method, flag):
    cv2 = pytest.importorskip("cv2")
    after = [(5, 6), (3, 11), (2, 2), (24, 5)]
    found = run(after, (24, 12), method=method)
    for one, image, (height, width), size in zip(found, batch(), SIZES, after):
        expected = cv2.resize(image[:height, :width], size[::-1], interpolation=getattr(cv2, flag))
        np.testing.assert_allclose(one[: size[0], : size[1]], expected.reshape(*size, 3), atol=2e-2)


@pytest.mark.parametrize("resize", [Resize(size=(8, 12)), Resize(factor=0.5, antialias=True), Resize(factor=1.5)])
def test_the_predictor_shows_the_network_that_size(resize):
    """Alone or padded in a batch, an image has the labels that numpy finds."""
    info = dataclasses.replace(INFO, resize=resize, channel_order="bgr")
    predictor = Predictor(PixelNet(), variables(), info)
    padded = images(3, 12, 16, seed=4)
    sizes = np.array([[12, 16], [7, 10], [0, 0]], np.int32)
    labels, _ = predictor.score_batch(padded, sizes)
    kernel = variables()["params"]["kernel"].astype(np.float64)
    for i, (height, width) in enumerate(sizes[:2]):
        image = padded[i, :height, :width]
        shown = (image[..., ::-1].astype(np.float64) - INFO.mean) / INFO.std
        size = resize.size or tuple(int(n * resize.factor) for n in (height, width))
        if resize.antialias:
            planes = [Image.fromarray(shown[..., c].astype(np.float32)) for c in range(3)]
            shown = np.stack([np.asarray(p.resize(size[::-1], Image.Resampling.BILINEAR)) for p in planes], -1)
        else:
            shown = bilinear(shown, size)
        expected = bilinear(shown @ kernel, (height, width))
        gap = np.sort(expected, -1)[..., -1] - np.sort(expected, -1)[..., -2]
        certain = gap > 1e-3
        assert certain.mean() > 0.9
        found = np.asarray(labels)[i, :height, :width]
        np.testing.assert_array_equal(found[certain], expected.argmax(-1)[certain])
        np.testing.assert_array_equal(predictor(image).labels, found)
    assert (np.asarray(labels)[1, 7:] == IGNORE).all()
    assert (np.asarray(labels)[2] == IGNORE).all()


def test_a_resize_to_the_size_it_has_changes_nothing():
    plain = Predictor(PixelNet(), variables(), INFO)
    same = Predictor(PixelNet(), variables(), dataclasses.replace(INFO, resize=Resize(size=(12, 16))))
    batch = images(2, 12, 16)
    for expected, found in zip(plain.score_batch(batch), same.score_batch(batch)):
        np.testing.assert_array_equal(found, expected)


def test_windows_scales_and_mirroring_see_the_resized_image():
    info = dataclasses.replace(INFO, resize=Resize(factor=2.0))
    plain, batch = Predictor(PixelNet(), variables(), info), images(2, 8, 12)
    for settings in ({"window": (8, 8)}, {"flip": True}):
        other = Predictor(PixelNet(), variables(), info, **settings)
        labels, whole = np.asarray(other.predict_batch(batch)), np.asarray(plain.predict_batch(batch))
        assert np.mean(labels != whole) < 0.05


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "neither"),
        ({"size": (4, 4), "factor": 0.5}, "both"),
        ({"size": (0, 4)}, "at least 1"),
        ({"factor": -1.0}, "above 0"),
        ({"factor": 0.5, "method": "lanczos"}, "lanczos"),
        ({"factor": 0.5, "antialias": True, "align_corners": True}, "antialias"),
    ],
)
def test_a_resize_that_cannot_be(options, says):
    with pytest.raises(ConfigError, match=says):
        Resize(**options)


def test_old_and_new_records_are_read():
    info = dataclasses.replace(INFO, channel_order="bgr", void_class=3, resize=Resize(size=(8, 12), antialias=True))
    assert DatasetInfo.from_json(info.to_json()) == info
    old = {key: value for key, value in INFO.to_json().items() if key not in ("channel_order", "void_class", "resize")}
    assert DatasetInfo.from_json(old) == INFO


def test_void_is_written_as_255():
    info = dataclasses.replace(INFO, void_class=1)
    image = images(1, 16, 16)[0]
    plain, found = Predictor(PixelNet(), variables(), INFO)(image), Predictor(PixelNet(), variables(), info)(image)
    assert (plain.labels == 1).any()
    np.testing.assert_array_equal(found.labels, np.where(plain.labels == 1, IGNORE, plain.labels))
