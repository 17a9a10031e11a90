"""The TIFF reader against files written here and by libtiff (through PIL and cv2)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_sets import tiff

from segjax.core.errors import DataError
from segjax.data.tiff import read_tiff


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"planar": True}, {"tile": 16}, {"tile": 16, "planar": True}, {"deflate": True}, {"order": ">"}]
)
def test_round_trip(tmp_path, channels, dtype, options):
    array = (np.random.default_rng(0).random((19, 37, channels)) * 250 - 5).astype(dtype)
    read = read_tiff(tmp_path / "a.tif", tiff(array, **options))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("smooth", [False, True])
def test_files_of_libtiff(tmp_path, compression, smooth):
    # Random values fill LZW's table to its 12 bits and clear it; smooth ones make long runs.
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (120, 110, 3), np.uint8)
    if smooth:
        array = (array // 64 * np.linspace(0, 1, 120)[:, None, None]).astype(np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(array).save(path, compression=compression)
    np.testing.assert_array_equal(read_tiff(path, path.read_bytes()), array)


def test_predictor(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (30, 41, 3), np.uint16)
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), array, [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 2])
    np.testing.assert_array_equal(read_tiff(path, path.read_bytes()), array[..., ::-1])


def test_pages_become_channels(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (8, 9, 6), np.uint8)
    pages = [Image.fromarray(array[..., k]) for k in range(6)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_tiff(path, path.read_bytes()), array)


def test_jpeg_compression_is_named(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path, compression="jpeg")
    with pytest.raises(DataError, match="TIFF compression 7"):
        read_tiff(path, path.read_bytes())


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.99])
def test_damage_is_a_data_error(tmp_path, share):
    data = tiff(np.ones((20, 20, 5), np.uint16))
    with pytest.raises(DataError, match=r"a\.tif: damaged or truncated"):
        read_tiff(tmp_path / "a.tif", data[: int(len(data) * share)])
