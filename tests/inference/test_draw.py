from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segjax.core.errors import ConfigError, DataError, StorageError
from segjax.core.schema import IGNORE
from segjax.inference import draw
from tests.inference.pixel_network import INFO, images

LABELS = np.array([[0, 1, 2], [3, IGNORE, 0]], np.uint8)


def test_palette_png_keeps_ids_and_shows_colours(tmp_path) -> None:
    path = draw.save_labels(tmp_path / "deep" / "a.png", LABELS, INFO.palette)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), LABELS)
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), draw.colour_labels(LABELS, INFO.palette))


def test_more_than_256_classes_are_written_in_16_bits(tmp_path) -> None:
    labels = np.array([[0, 299], [256, 7]], np.int32)
    path = draw.save_labels(tmp_path / "a.png", labels, [(0, 0, 0)] * 300)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), labels)


def test_colours() -> None:
    colour = draw.colour_labels(LABELS, INFO.palette)
    assert tuple(colour[0, 1]) == INFO.palette[1]
    assert tuple(colour[1, 1]) == draw.VOID_COLOUR


def test_overlay_mixes_colour_and_image_and_spares_void() -> None:
    image = np.full((2, 3, 3), 100, np.uint8)
    flat = np.zeros((2, 3), np.uint8)
    np.testing.assert_array_equal(draw.overlay(image, flat, INFO.palette, 0.0), image)
    np.testing.assert_array_equal(draw.overlay(image, flat, INFO.palette, 1.0)[0, 0], INFO.palette[0])
    half = draw.overlay(image, flat, INFO.palette, 0.5)
    np.testing.assert_allclose(half[0, 0], (100 + np.array(INFO.palette[0])) / 2, atol=1)
    void = np.full((2, 3), IGNORE, np.uint8)
    np.testing.assert_array_equal(draw.overlay(image, void, INFO.palette, 0.7), image)
    with pytest.raises(ConfigError, match="alpha"):
        draw.overlay(image, flat, INFO.palette, 1.5)
    with pytest.raises(DataError, match=r"2x3.*1x1"):
        draw.overlay(image, flat[:1, :1], INFO.palette)


def test_error_map() -> None:
    truth = np.array([[0, 1, IGNORE]], np.uint8)
    picture = draw.error_map(np.array([[0, 2, 1]], np.uint8), truth)
    assert [tuple(pixel) for pixel in picture[0]] == [draw.RIGHT_COLOUR, draw.WRONG_COLOUR, draw.VOID_COLOUR]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_image_can_be_shown(dtype: type, channels: int) -> None:
    image = images(1, 8, 9, channels=channels)[0].astype(dtype)
    picture = draw.display(image)
    assert picture.shape == (8, 9, 3)
    assert picture.dtype == np.uint8
    assert picture.max() > picture.min()


def test_strip_and_legend_have_room_for_everything() -> None:
    image = images(1, 2, 3)[0]
    assert draw.strip(image, LABELS, LABELS, INFO.palette).shape == (2, 4 * 3 + 3 * draw.GAP, 3)
    sheet = draw.legend(INFO.classes, INFO.palette).reshape(-1, 3)
    for colour in INFO.palette:
        assert (sheet == colour).all(axis=1).any()


def test_unwritable_place_is_one_line(tmp_path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(StorageError, match="could not be written"):
        draw.save_labels(tmp_path / "file" / "a.png", LABELS, INFO.palette)
    assert (tmp_path / "file").read_text() == "here"
