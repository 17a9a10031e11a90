"""Images and labels of every format, against the arrays they were written from."""

from __future__ import annotations

import dataclasses
import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny_sets import grey_png, tiff

from segjax.core.errors import DataError
from segjax.core.schema import IGNORE
from segjax.data import decode, labels, palettes
from segjax.data.layout import Layout, class_values


def _layout(tmp_path, classes=4, **changes):
    fields = {
        "name": "folder",
        "root": tmp_path,
        "classes": tuple("abcdefgh"[:classes]),
        "palette": palettes.distinct(classes),
        "splits": {},
        "values": class_values(classes),
    }
    return Layout(**{**fields, **changes})


def _ids(classes=4, size=(9, 13), seed=0):
    ids = np.random.default_rng(seed).integers(0, classes, size).astype(np.uint8)
    ids[0, :3] = IGNORE
    return ids


def _save(path, array, mode=None, **options):
    Image.fromarray(array, mode).save(path, **options)
    return path


def _read(path, layout):
    data, label = labels.read_label(path, layout)
    ids = label.ids
    stored = Image.open(io.BytesIO(data))
    assert stored.mode == "L"
    np.testing.assert_array_equal(decode.decode_label(data), ids)
    assert ids.dtype == np.uint8
    return data, ids


def _stored(path, channels=None):
    data, picture = decode.read_image(path, channels)
    assert picture.missing is None
    return data, picture.pixels


def _filtered_rows(data):
    """The rows of a PNG of one IDAT, each after its filter's number (PNG specification, 9.2: 0 none, 2 up)."""
    start = data.index(b"IDAT")
    return zlib.decompress(data[start + 4 : start + 4 + int.from_bytes(data[start - 4 : start], "big")])


def _filters(data, array):
    return set(_filtered_rows(data)[:: 1 + array[0].nbytes])


class TestLabels:
    def test_grey_is_stored_unfiltered(self, tmp_path):
        ids = _ids()
        data, read = _read(_save(tmp_path / "a.png", ids), _layout(tmp_path))
        np.testing.assert_array_equal(read, ids)
        assert _filtered_rows(data) == b"".join(b"\0" + row.tobytes() for row in ids)

    def test_palette_gives_indices_not_colours(self, tmp_path):
        ids = _ids()
        image = Image.fromarray(ids).convert("L")
        image = Image.frombytes("P", image.size, ids.tobytes())
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
        image.save(tmp_path / "a.png")
        assert cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED).ndim == 3  # the trap
        np.testing.assert_array_equal(_read(tmp_path / "a.png", _layout(tmp_path))[1], ids)

    @pytest.mark.parametrize("depth", [2, 4])
    def test_few_bits_are_not_stretched(self, tmp_path, depth):
        ids = np.random.default_rng(0).integers(0, 4, (5, 7))
        (tmp_path / "a.png").write_bytes(grey_png(ids, depth))
        assert np.asarray(Image.open(tmp_path / "a.png")).max() == 3 * 255 // (2**depth - 1)  # the trap
        np.testing.assert_array_equal(_read(tmp_path / "a.png", _layout(tmp_path))[1], ids)

    def test_one_bit(self, tmp_path):
        ids = np.random.default_rng(0).integers(0, 2, (5, 7)).astype(bool)
        Image.fromarray(ids).save(tmp_path / "a.png")
        np.testing.assert_array_equal(_read(tmp_path / "a.png", _layout(tmp_path))[1], ids)

    def test_sixteen_bits_within_the_classes(self, tmp_path):
        ids = _ids()
        cv2.imwrite(str(tmp_path / "a.png"), ids.astype(np.uint16))
        np.testing.assert_array_equal(_read(tmp_path / "a.png", _layout(tmp_path))[1], ids)

    def test_sixteen_bits_are_not_truncated(self, tmp_path):
        ids = _ids().astype(np.uint16)
        ids[4, 4:6] = 258  # 2 in its low byte
        cv2.imwrite(str(tmp_path / "a.png"), ids)
        with pytest.raises(DataError, match=r"a\.png: label value 258 on 2 pixels; .* classes 0\.\.3 and void 255"):
            labels.read_label(tmp_path / "a.png", _layout(tmp_path))

    @pytest.mark.parametrize("suffix", ["npy", "tif"])
    def test_arrays(self, tmp_path, suffix):
        ids = _ids().astype(np.int32)
        path = tmp_path / f"a.{suffix}"
        if suffix == "npy":
            np.save(path, ids)
        else:
            path.write_bytes(tiff(ids[..., None]))
        np.testing.assert_array_equal(_read(path, _layout(tmp_path))[1], ids)

    def test_negative_value(self, tmp_path):
        ids = _ids().astype(np.int32)
        ids[3, 3] = -1
        np.save(tmp_path / "a.npy", ids)
        with pytest.raises(DataError, match="label value -1 on 1 pixels"):
            labels.read_label(tmp_path / "a.npy", _layout(tmp_path))

    def test_colours_of_the_class_list(self, tmp_path):
        ids = _ids()
        layout = _layout(tmp_path, palette=((10, 0, 0), (0, 20, 0), (0, 0, 30), (1, 2, 3)), colours=True)
        layout = dataclasses.replace(layout, void_colours=((0, 0, 0),))
        table = np.zeros((256, 3), np.uint8)
        table[:4] = layout.palette
        path = _save(tmp_path / "a.png", table[ids])  # void is black, no class's colour
        np.testing.assert_array_equal(_read(path, layout)[1], ids)
        table[2] = (9, 9, 9)
        with pytest.raises(DataError, match=r"label colour \(9, 9, 9\) on \d+ pixels"):
            labels.read_label(_save(tmp_path / "b.png", table[ids]), layout)

    def test_colours_without_a_list(self, tmp_path):
        path = _save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 4, (4, 4, 4)).astype(np.uint8))
        with pytest.raises(DataError, match=r"RGBA picture, not class ids; .*classes\.txt"):
            labels.read_label(path, _layout(tmp_path))

    def test_grey_stored_as_rgb(self, tmp_path):
        ids = _ids()
        path = _save(tmp_path / "a.png", np.repeat(ids[..., None], 3, -1))
        np.testing.assert_array_equal(_read(path, _layout(tmp_path))[1], ids)

    def test_values_are_mapped(self, tmp_path):
        raw = np.array([[0, 11, 255, 7]], np.uint8)
        layout = _layout(tmp_path, values={0: 0, 11: IGNORE, 255: 1, 7: 3})
        data, ids = _read(_save(tmp_path / "a.png", raw), layout)
        np.testing.assert_array_equal(ids, [[0, IGNORE, 1, 3]])
        assert data != (tmp_path / "a.png").read_bytes()

    def test_jpeg_labels_are_refused(self, tmp_path):
        path = _save(tmp_path / "a.jpg", _ids())
        with pytest.raises(DataError, match="losslessly"):
            labels.read_label(path, _layout(tmp_path))


class TestImages:
    @pytest.mark.parametrize("kind", ["L", "RGB", "I;16"])
    def test_png_is_stored_to_decode_fast(self, tmp_path, kind):
        rng = np.random.default_rng(0)
        array = {
            "L": rng.integers(0, 256, (5, 7), np.uint8),
            "RGB": rng.integers(0, 256, (5, 7, 3), np.uint8),
            "I;16": rng.integers(0, 65536, (5, 7), np.uint16),
        }[kind]
        path = _save(tmp_path / "a.png", array)
        data, image = _stored(path)
        assert _filters(data, array) == {2}
        assert image.dtype == array.dtype
        np.testing.assert_array_equal(image, array.reshape(5, 7, -1))
        np.testing.assert_array_equal(decode.decode_image(data), image)
        np.testing.assert_array_equal(decode.open_image(path), image)

    def test_png_that_would_grow_keeps_its_bytes(self, tmp_path):
        indices = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        picture = Image.frombytes("P", (64, 64), indices.tobytes())
        palette = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
        picture.putpalette(palette.tobytes())
        picture.save(tmp_path / "a.png")
        data, image = _stored(tmp_path / "a.png")
        assert data == (tmp_path / "a.png").read_bytes()
        np.testing.assert_array_equal(image, palette[indices])
        np.testing.assert_array_equal(decode.decode_image(data), image)

    def test_jpeg_is_rgb(self, tmp_path):
        array = np.zeros((16, 16, 3), np.uint8)
        array[..., 0] = 220
        path = _save(tmp_path / "a.jpg", array, quality=95)
        data, image = _stored(path)
        assert data == path.read_bytes()
        np.testing.assert_allclose(image.astype(int), array, atol=4)

    def test_rotated_jpeg_is_stored_upright(self, tmp_path):
        array = np.zeros((8, 16, 3), np.uint8)
        array[:, 8:] = 200
        exif = Image.Exif()
        exif[0x0112] = 6  # shown turned by a quarter
        path = _save(tmp_path / "a.jpg", array, quality=95, exif=exif)
        data, image = _stored(path)
        assert image.shape == (16, 8, 3)
        assert image[:7].mean() < 20 < 180 < image[9:].mean()
        np.testing.assert_array_equal(decode.decode_image(data), image)

    def test_alpha(self, tmp_path):
        array = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
        path = _save(tmp_path / "a.png", array)
        for channels in (None, 3):
            data, image = _stored(path, channels)
            np.testing.assert_array_equal(image, array[..., :3])
            np.testing.assert_array_equal(decode.decode_image(data), image)
        data, image = _stored(path, 4)
        np.testing.assert_array_equal(image, array)
        np.testing.assert_array_equal(decode.decode_image(data), image)
        assert _filters(data, array) == {2}

    def test_grey_among_rgb_is_repeated(self, tmp_path):
        array = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
        data, image = _stored(_save(tmp_path / "a.png", array), 3)
        np.testing.assert_array_equal(image, np.repeat(array[..., None], 3, -1))
        np.testing.assert_array_equal(decode.decode_image(data), image)

    def test_rgb_among_grey(self, tmp_path):
        path = _save(tmp_path / "a.png", np.zeros((5, 7, 3), np.uint8))
        with pytest.raises(DataError, match=r"a\.png: 3 channels where 1 are expected"):
            _stored(path, 1)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_five_channels(self, tmp_path, dtype):
        array = (np.random.default_rng(0).random((5, 7, 5)) * 200).astype(dtype)
        np.save(tmp_path / "a.npy", array)
        (tmp_path / "b.tif").write_bytes(tiff(array))
        for path in (tmp_path / "a.npy", tmp_path / "b.tif"):
            data, image = _stored(path)
            assert image.dtype == array.dtype
            np.testing.assert_array_equal(image, array)
            np.testing.assert_array_equal(decode.decode_image(data), image)

    def test_wide_types_become_float(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[-3, 70000]], np.int32))
        _, image = _stored(tmp_path / "a.npy")
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image[..., 0], [[-3, 70000]])

    def test_not_finite(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([[1.0, np.nan]]))
        with pytest.raises(DataError, match=r"a\.npy: 1 pixel values are NaN"):
            _stored(tmp_path / "a.npy")

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.npy"])
    def test_truncated(self, tmp_path, name):
        array = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        path = tmp_path / name
        if name == "a.tif":
            path.write_bytes(tiff(array))
        elif name == "a.npy":
            np.save(path, array)
        else:
            _save(path, array)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"{name}: damaged") as caught:
            _stored(path)
        assert "\n" not in str(caught.value)

    def test_not_an_image(self, tmp_path):
        (tmp_path / "a.png").write_text("hello")
        with pytest.raises(DataError, match="not a PNG"):
            _stored(tmp_path / "a.png")
        (tmp_path / "b.png").write_text("")
        with pytest.raises(DataError, match="empty"):
            _stored(tmp_path / "b.png")


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_encode_image_is_lossless(channels, dtype):
    array = (np.random.default_rng(0).random((6, 5, channels)) * 255).astype(dtype)
    back = decode.decode_image(decode.encode_image(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def _png_with_transparent(colour):
    buffer = io.BytesIO()
    array = np.random.default_rng(0).integers(0, 256, (5, 7, 3) if isinstance(colour, tuple) else (5, 7), np.uint8)
    Image.fromarray(array).save(buffer, "PNG", transparency=colour)
    return buffer.getvalue()


def _written(mode, kind):
    array = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)
    image = Image.fromarray(array[..., :3]).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(_written(mode, "PNG") for mode in ("L", "LA", "P", "RGB", "RGBA", "1")),
        *(_written(mode, "JPEG") for mode in ("L", "RGB", "CMYK")),
        _png_with_transparent((1, 2, 3)),
        _png_with_transparent(9),
        decode.encode_image(np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)),
    ],
)
def test_every_kind_decodes_as_it_is_stored_in_rgb_order(data):
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
    stored = stored[..., None] if stored.ndim == 2 else stored
    found = decode.decode_image(data)
    assert found.dtype == stored.dtype
    np.testing.assert_array_equal(found, stored[..., order[stored.shape[-1]]])


def test_a_stored_label_with_a_transparent_grey_is_read_as_ids():
    data = _png_with_transparent(9)
    np.testing.assert_array_equal(decode.decode_label(data), np.asarray(Image.open(io.BytesIO(data))))
