"""The TIFF reader against libtiff (through Pillow and cv2) and tifffile, whole and by rectangles; pages, damage."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from tiny_sets import shared, tiff

from segjax.core.errors import DataError
from segjax.data import tiff_blocks
from segjax.data.tiff import TiffReader, read_tiff

RNG = np.random.default_rng(0)
imagecodecs = pytest.mark.skipif(not tiff_blocks.has_imagecodecs(), reason="imagecodecs is not installed")


@pytest.fixture(params=[pytest.param(True, marks=imagecodecs), False], ids=["imagecodecs", "without"])
def codecs(request, monkeypatch) -> bool:
    """With the package imagecodecs, and without it."""
    if not request.param:
        monkeypatch.setattr(tiff_blocks, "has_imagecodecs", lambda: False)
    return request.param


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.tif"


def scene(height: int = 45, width: int = 67) -> np.ndarray:
    """uint8 [H, W, 3], smooth enough for lossy codecs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3 % 256, y * 4 % 256, (x + y) * 2 % 256], -1).astype(np.uint8)


def check(path: Path, expected: np.ndarray) -> None:
    """The file gives the samples, and rectangles of it the same."""
    expected = expected[..., None] if expected.ndim == 2 else expected
    found = read_tiff(path).samples
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    with TiffReader(path) as reader:
        assert (reader.shape, reader.dtype) == (found.shape, found.dtype)
        height, width, _ = reader.shape
        for top, left, bottom, right in [
            (0, 0, 1, width),
            (height // 3, width // 4, height // 2 + 1, width // 2 + 1),
            (height - 1, width - 1, height, width),
        ]:
            np.testing.assert_array_equal(reader.read(top, left, bottom, right), found[top:bottom, left:right])


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize(
    "options", [{}, {"planar": True}, {"tile": 16}, {"tile": 16, "planar": True}, {"deflate": True}, {"order": ">"}]
)
def test_files_written_by_hand(path, channels, dtype, options):
    array = (np.random.default_rng(0).random((19, 37, channels)) * 250).astype(dtype)
    path.write_bytes(tiff(array, **options))
    check(path, array)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd"])
@pytest.mark.parametrize("smooth", [False, True])
def test_files_of_libtiff(path, codecs, compression, smooth):
    # Random values fill LZW's table to its 12 bits and clear it; smooth ones make long runs.
    array = RNG.integers(0, 256, (120, 110, 3), np.uint8)
    if smooth:
        array = (array // 64 * np.linspace(0, 1, 120)[:, None, None]).astype(np.uint8)
    try:
        Image.fromarray(array).save(path, compression=compression)
    except (KeyError, RuntimeError, OSError):
        pytest.skip(f"Pillow's libtiff does not write {compression}")
    check(path, array)


@imagecodecs
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma"])
@pytest.mark.parametrize(
    ("dtype", "predictor"),
    [("uint8", 2), ("uint16", 2), ("int32", 2), ("float16", 3), ("float32", 3), ("float64", 3), ("uint64", 1)],
)
def test_files_of_tifffile(path, codecs, dtype, predictor, compression, tile, order):
    array = (RNG.random((33, 41, 3)) * 200).astype(dtype)
    where = {"tile": tile} if tile else {"rowsperstrip": 7}
    settings = {"compression": compression, "predictor": predictor if predictor > 1 else None, "byteorder": order}
    tifffile.imwrite(path, array, photometric="rgb", bigtiff=order == "<", metadata=None, **settings, **where)
    check(path, array)


def test_predictor_of_libtiff(path, codecs):
    array = RNG.integers(0, 65536, (30, 41, 3), np.uint16)
    cv2.imwrite(str(path), array, [cv2.IMWRITE_TIFF_COMPRESSION, 5, cv2.IMWRITE_TIFF_PREDICTOR, 2])
    check(path, array[..., ::-1])


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(path, orientation, tile):
    tags = [(274, 3, 1, orientation, True)]
    tifffile.imwrite(path, scene(), photometric="rgb", extratags=tags, tile=tile, metadata=None)
    check(path, np.asarray(ImageOps.exif_transpose(Image.open(path))))


@pytest.mark.parametrize("orientation", [0, 9])
def test_orientation_that_means_nothing(path, orientation):
    tifffile.imwrite(path, scene(), photometric="rgb", extratags=[(274, 3, 1, orientation, True)], metadata=None)
    check(path, scene())


@pytest.mark.parametrize("mode", ["1", "L"])
def test_white_is_zero(path, mode):
    Image.fromarray(scene()[..., 0]).convert(mode).save(path, tiffinfo={262: 0})
    with Image.open(path) as picture:
        assert picture.tag_v2[262] == 0
        check(path, np.asarray(picture).astype(np.uint8))
    assert read_tiff(path).bits == {"1": 1, "L": 8}[mode]


def test_white_is_zero_of_sixteen_bits_and_its_nodata(path):
    array = scene()[..., 0].astype(np.uint16) * 257
    tags = [(42113, 2, 0, "0", True)]
    tifffile.imwrite(path, array, photometric="miniswhite", extratags=tags, metadata=None)
    check(path, 65535 - array)
    assert read_tiff(path).nodata == 65535


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
@pytest.mark.parametrize("fill", [1, 2])
def test_fax(path, codecs, compression, fill):
    Image.fromarray(scene()[..., 0]).convert("1").save(path, compression=compression, tiffinfo={266: fill})
    check(path, np.asarray(Image.open(path)).astype(np.uint8))


def test_palette(path):
    Image.fromarray(scene()).quantize(17).save(path)
    found = read_tiff(path)
    np.testing.assert_array_equal(found.palette[found.samples[..., 0]], np.asarray(Image.open(path).convert("RGB")))


def test_palette_of_eight_bits_a_colour(path):
    """Some writers forget that colours have 16 bits; libtiff knows it by their size, so cv2 does."""
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, scene()[..., 0], photometric="palette", colormap=colours, metadata=None)
    found = read_tiff(path)
    theirs = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(found.palette[found.samples[..., 0]], theirs)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_cmyk(path, codecs, compression):
    inks = np.asarray(Image.fromarray(scene()).convert("CMYK")).copy()
    inks[..., 3] = RNG.integers(0, 256, inks.shape[:2])
    Image.fromarray(inks, "CMYK").save(path, compression=compression)
    check(path, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "jpeg"])
def test_luminance_and_colour_differences(path, codecs, compression):
    Image.fromarray(scene()).convert("YCbCr").save(path, compression=compression)
    check(path, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [50, 95])
def test_jpeg(path, codecs, quality, channels):
    array = scene() if channels == 3 else scene()[..., 0]
    Image.fromarray(array).save(path, compression="jpeg", quality=quality)
    check(path, np.asarray(Image.open(path)))


@imagecodecs
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2), (2, 1)])
def test_jpeg_with_subsampled_colours_in_tiles(path, codecs, subsampling):
    settings = {"compression": "jpeg", "subsampling": subsampling, "tile": (32, 32)}
    tifffile.imwrite(path, scene(), photometric="rgb", metadata=None, **settings)
    check(path, np.asarray(Image.open(path).convert("RGB")))


@imagecodecs
@pytest.mark.parametrize(
    ("compression", "options"),
    [
        ("jpeg2000", {"level": 0}),
        ("webp", {"lossless": True}),
        ("lerc", {}),
        ("png", {}),
        ("jpegxl", {"lossless": True}),
    ],
)
def test_codecs_of_imagecodecs_alone(path, codecs, compression, options):
    settings = {"compression": compression, "compressionargs": options, "tile": (32, 32)}
    tifffile.imwrite(path, scene(), photometric="rgb", metadata=None, **settings)
    if codecs:
        check(path, scene())
    else:
        with pytest.raises(DataError, match=rf"a\.tif: TIFF compression \d+ \({compression.upper()}\).*segjax\[tiff\]"):
            read_tiff(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12])
def test_packed_samples_keep_their_values(path, bits):
    values = RNG.integers(0, 1 << bits, (33, 37)).astype(np.uint8 if bits < 9 else np.uint16)
    rows = [np.packbits((row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)) for row in values]
    data = bytearray(tiff(np.stack(rows)[..., None]))
    for tag, value in ((256, 37), (258, bits)):
        at = data.index(struct.pack("<H", tag) + struct.pack("<HI", 4 if tag == 256 else 3, 1))
        data[at + 8 : at + 10] = struct.pack("<H", value)
    path.write_bytes(data)
    check(path, values)
    assert read_tiff(path).bits == bits


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_alpha(path, kind):
    array = np.concatenate([scene(), RNG.integers(0, 256, (*scene().shape[:2], 1), np.uint8)], -1)
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=[kind], metadata=None)
    check(path, np.asarray(Image.open(path)))
    assert read_tiff(path).alpha


def test_a_fourth_band_is_no_alpha(path):
    array = np.concatenate([scene(), scene()[..., :1]], -1)
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig", metadata=None)
    check(path, array)
    assert not read_tiff(path).alpha


class TestPages:
    @pytest.mark.parametrize("options", [{"metadata": None}, {}, {"imagej": True}, {"ome": True}])
    def test_of_one_size_are_channels(self, path, options):
        array = RNG.integers(0, 65536, (4, 20, 30)).astype(np.uint16)
        tifffile.imwrite(path, array, photometric="minisblack", **options)
        check(path, np.moveaxis(array, 0, -1))

    def test_of_pillow(self, path):
        array = RNG.integers(0, 256, (8, 9, 6), np.uint8)
        pages = [Image.fromarray(array[..., k]) for k in range(6)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
        check(path, array)

    @pytest.mark.parametrize("flag", [0, 1])
    def test_reduced_copies_are_left_out(self, path, flag):
        with tifffile.TiffWriter(path) as writer:
            writer.write(scene(), photometric="rgb", metadata=None, subifds=1)
            writer.write(scene()[::4, ::4], photometric="rgb", metadata=None, subfiletype=1)
            for step in (2, 3):
                writer.write(scene()[::step, ::step], photometric="rgb", metadata=None, subfiletype=flag)
        check(path, scene())

    def test_a_thumbnail_may_come_first(self, path):
        with tifffile.TiffWriter(path) as writer:
            writer.write(scene()[::4, ::4], photometric="rgb", metadata=None, subfiletype=1, subifds=1)
            writer.write(scene(), photometric="rgb", metadata=None)
        check(path, scene())

    def test_transparency_mask(self, path):
        mask = np.ones(scene().shape[:2], bool)
        mask[3:9] = False
        with tifffile.TiffWriter(path) as writer:
            writer.write(scene(), photometric="rgb", metadata=None)
            writer.write(mask, photometric="mask", subfiletype=4, metadata=None)
        check(path, scene())
        np.testing.assert_array_equal(read_tiff(path).masked, ~mask)
        with TiffReader(path) as reader:
            np.testing.assert_array_equal(reader.read_mask(2, 5, 20, 30), ~mask[2:20, 5:30])

    @pytest.mark.parametrize(
        ("second", "words"),
        [
            (scene()[:30, :20], "pages of 45x67 and 30x20"),
            (scene().astype(np.float32), "pages of uint8 x 3 and of float32 x 3"),
        ],
    )
    def test_that_are_no_stack_are_refused(self, path, second, words):
        with tifffile.TiffWriter(path) as writer:
            for page in (scene(), second):
                writer.write(page, photometric="rgb", metadata=None)
        with pytest.raises(DataError, match=words):
            read_tiff(path)


class TestNodata:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("-9999", -9999),
            ("-3.4028234663852886e+38", -3.4028234663852886e38),
            ("255 ", 255),
            ("1,5", 1.5),
            ("0\0\0", 0),
            ("nan", math.nan),
            ("-1.#QNAN", math.nan),
            ("inf", math.inf),
            ("", None),
        ],
    )
    def test_number(self, path, text, value):
        tags = [(42113, 2, 0, text, True)]
        tifffile.imwrite(path, scene()[..., 0].astype(np.float32), extratags=tags, metadata=None)
        found = read_tiff(path).nodata
        assert found == value or (math.isnan(found) and math.isnan(value))

    def test_that_is_no_number_is_told(self, path):
        tifffile.imwrite(
            path, scene(), photometric="rgb", extratags=[(42113, 2, 0, "none at all", True)], metadata=None
        )
        with pytest.raises(DataError, match=r"a\.tif: GDAL_NODATA 'none at all' is not a number"):
            read_tiff(path)

    def test_files_of_gdal(self):
        folder = shared("geotiff")
        found = read_tiff(folder / "float_raster_with_nodata.tif")
        assert found.nodata == -3.4e38
        assert (found.samples == np.float32(found.nodata)).any()
        found = read_tiff(folder / "RGBA.uint16.tif")
        assert found.alpha
        assert found.samples.shape == (411, 634, 4)
        with TiffReader(folder / "rotated.tif") as reader:
            assert reader.georeference[34264][1][3] == 100.0
        np.testing.assert_array_equal(
            read_tiff(folder / "scene_image.tif").samples, np.asarray(Image.open(folder / "scene_image.tif"))
        )

    def test_strips_that_are_left_out_are_nodata(self, path):
        tags = [(42113, 2, 0, "7", True)]
        tifffile.imwrite(path, scene()[..., 0], rowsperstrip=5, extratags=tags, metadata=None)
        data = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            for tag in ("StripOffsets", "StripByteCounts"):
                found = file.pages[0].tags[tag]
                width = {3: 2, 4: 4}[found.dtype]
                data[found.valueoffset + width : found.valueoffset + 2 * width] = bytes(width)
        path.write_bytes(data)
        expected = scene()[..., 0].copy()
        expected[5:10] = 7
        check(path, expected)


def one_strip(width: int, height: int, *, compression: int = 1, samples: int = 1, tile: int = 0) -> bytes:
    """A TIFF of a hundred bytes that claims to be a picture of any size."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression), (262, 3, 1), (277, 3, samples)]
    block = [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, 100)] if tile else [(273, 4, 8), (278, 4, height)]
    tags += block if tile else [*block, (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in sorted(tags))
    head = struct.pack("<2sHI", b"II", 42, 108) + zlib.compress(bytes(50000))[:100].ljust(100, b"x")
    return head + struct.pack("<H", len(tags)) + entries + bytes(4)


class TestDamage:
    @pytest.mark.parametrize(
        "claim",
        [
            {"width": 10**6, "height": 10**6},
            {"width": 2**32 - 1, "height": 2**32 - 1},
            {"width": 13000, "height": 13000},
            {"width": 13000, "height": 13000, "compression": 8},
            {"width": 13000, "height": 13000, "compression": 5},
            {"width": 100, "height": 100, "samples": 65535},
            {"width": 100, "height": 100, "compression": 8, "tile": 2**31 - 16},
            {"width": 100, "height": 100, "compression": 5, "tile": 2**20},
            {"width": 100, "height": 100, "compression": 7},
            {"width": 0, "height": 10},
        ],
        ids=str,
    )
    def test_sizes_that_the_bytes_cannot_stand_for(self, path, claim):
        path.write_bytes(one_strip(**claim))
        with pytest.raises(DataError, match=r"a\.tif: damaged or truncated TIFF"):
            read_tiff(path)

    def test_a_limit_is_told_as_a_limit(self, path, monkeypatch):
        tifffile.imwrite(path, scene(), photometric="rgb", metadata=None)
        monkeypatch.setenv("SEGJAX_MAX_PIXELS", "3000")
        with pytest.raises(DataError, match=r"45x67 is 3,015 pixels, the limit is 3,000; raise it with SEGJAX_MAX_PIX"):
            read_tiff(path)
        with TiffReader(path) as reader:  # any size, a rectangle at a time
            np.testing.assert_array_equal(reader.read(1, 2, 3, 4), scene()[1:3, 2:4])
        monkeypatch.setenv("SEGJAX_MAX_PIXELS", "4e3")
        check(path, scene())
        path.write_bytes(one_strip(100, 30, compression=50000, samples=60000))
        with pytest.raises(DataError, match=r"30x100x60000 of uint8 is more than 64 bytes for each of 4,000 pixels"):
            read_tiff(path)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "not a TIFF file"),
            (b"II*\0", "damaged or truncated"),
            (b"II*\0" + struct.pack("<I", 8), "no picture in it"),
            (one_strip(10, 10)[:-4] + struct.pack("<I", 108), "make a circle"),
            (one_strip(10, 10)[:-4] + struct.pack("<I", 10**6), "leads out of the file"),
        ],
    )
    def test_directories(self, path, data, words):
        path.write_bytes(data)
        with pytest.raises(DataError, match=words):
            read_tiff(path)

    @pytest.mark.parametrize(
        "options", [{}, {"compression": "zlib", "tile": (16, 16)}, {"compression": "jpeg"}, {"compression": "zstd"}]
    )
    def test_files_cut_short(self, path, codecs, options):
        if "compression" in options and not tiff_blocks.has_imagecodecs() and options["compression"] != "zlib":
            Image.fromarray(scene()).save(path, compression=options["compression"])
        else:
            tifffile.imwrite(path, scene(), photometric="rgb", metadata=None, **options)
        data = path.read_bytes()
        for share in np.linspace(0, 1, 25)[:-1]:
            with pytest.raises(DataError) as caught:
                read_tiff(path, data[: int(len(data) * share)])
            assert "\n" not in str(caught.value)

    def test_bytes_changed_at_random_are_never_a_crash(self, path, caplog):
        caplog.set_level(logging.DEBUG)
        rng = np.random.default_rng(1)
        tifffile.imwrite(path, scene(), photometric="rgb", tile=(16, 16), compression="zlib", predictor=2)
        data = path.read_bytes()
        caplog.clear()
        refused = []
        for _ in range(300):
            changed = bytearray(data)
            for place in rng.integers(0, 400, 4):
                changed[place] = rng.integers(0, 256)
            try:
                read_tiff(path, bytes(changed))
            except DataError as error:
                refused.append(str(error))
        assert len(refused) > 100
        assert not any("\n" in message for message in refused)
        assert not caplog.records  # tifffile's own complaints

    @pytest.mark.parametrize(
        ("tag", "value", "words"),
        [
            (262, 8, r"photometric interpretation 8 \(CIELAB\) is not read"),
            (262, 32803, r"photometric interpretation 32803 \(colour filter array\)"),
            (259, 32809, r"compression 32809 \(THUNDERSCAN\) is not read"),
            (258, 24, "samples of format 1 and 24 bits are not read"),
        ],
    )
    def test_what_is_not_read_is_named(self, path, tag, value, words):
        data = bytearray(tiff(scene()[..., :1]))
        at = data.index(struct.pack("<HHI", tag, 3, 1))
        data[at + 8 : at + 10] = struct.pack("<H", value)
        path.write_bytes(data)
        with pytest.raises(DataError, match=words):
            read_tiff(path)

    def test_complex_numbers_and_volumes(self, path):
        tifffile.imwrite(path, scene()[..., 0] + 1j, metadata=None)
        with pytest.raises(DataError, match="samples of format"):
            read_tiff(path)
        tifffile.imwrite(path, np.zeros((8, 32, 32), np.uint8), volumetric=True, tile=(8, 16, 16), metadata=None)
        with pytest.raises(DataError, match="volume of 8 slices"):
            read_tiff(path)
