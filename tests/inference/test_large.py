"""Large images a band at a time: the same labels as the whole image's, to the bit, in less memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from segjax.core.config import from_dict
from segjax.core.errors import DataError
from segjax.core.registry import create_model
from segjax.data.tiff import TiffReader
from segjax.inference import folder, label_writer
from segjax.inference.folder import label_files
from segjax.inference.large import LargeImages
from segjax.inference.predictor import Predictor
from segjax.tasks.semantic.config import CRF
from tests.inference.pixel_network import INFO, PixelNet, images, variables


def in_bands(predictor: Predictor, path: Path) -> np.ndarray:
    with TiffReader(path) as reader:
        return np.concatenate(list(LargeImages(predictor).bands(path, reader)))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("blend", ["gaussian", "uniform", "centre"])
@pytest.mark.parametrize("size", [(61, 90), (64, 12), (13, 50), (33, 100)])  # smaller than a window, no multiples
def test_labels_are_those_of_the_whole_image(tmp_path, size, blend: str, flip: bool) -> None:
    image = images(1, *size)[0]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(16, 32), compression="zlib")
    settings = {"window": (16, 24), "blend": blend, "flip": flip, "batch_size": 3}
    predictor = Predictor(PixelNet(context=True), variables(), INFO, **settings)
    whole = predictor(image).labels
    assert len(np.unique(whole)) == 4
    np.testing.assert_array_equal(in_bands(predictor, tmp_path / "a.tif"), whole)


def test_convolutions_too_agree_to_the_bit_with_the_whole_image_and_with_its_crops(tmp_path) -> None:
    info = dataclasses.replace(INFO, mean=(127.0,) * 3)
    model = create_model("unet/test", num_classes=4)
    weights = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32), train=False)
    image = images(1, 150, 203)[0]
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", rowsperstrip=7)
    predictor = Predictor(model, weights, info, window=(64, 64), flip=True, batch_size=2)
    labels = in_bands(predictor, tmp_path / "a.tif")
    np.testing.assert_array_equal(labels, predictor.predict([image])[0].labels)
    assert len(np.unique(labels)) > 1
    # A crop whose windows lie where those of the whole image do, but at the borders: from row 88 on, say.
    plain = Predictor(model, weights, info, window=(64, 64), batch_size=2)
    labels = in_bands(plain, tmp_path / "a.tif")
    crop = plain.predict([image[:128, 32:160]])[0].labels
    np.testing.assert_array_equal(labels[:88, 64:128], crop[:88, 32:96])


def test_settings_that_need_the_whole_image_are_refused(tmp_path) -> None:
    for settings, words in [
        ({}, "give --window"),
        ({"window": (16, 16), "scales": (0.5, 1.0)}, "which --scales needs"),
        ({"window": (16, 16), "crf": CRF(enabled=True)}, "which --crf needs"),
    ]:
        with pytest.raises(DataError, match=words):
            LargeImages(Predictor(PixelNet(), variables(), INFO, **settings))


def test_no_measurement_is_void_whole_and_in_bands(tmp_path) -> None:
    info = dataclasses.replace(INFO, channels=1, mean=(0.4,), std=(0.3,), image_dtype="float32")
    values = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    hole = np.zeros(values.shape, bool)
    hole[3:21, 5:9] = True
    path = tmp_path / "a.tif"
    tags = [(42113, 2, 0, "-9999", True)]
    tifffile.imwrite(path, np.where(hole, np.float32(-9999), values), extratags=tags, metadata=None)
    predictor = Predictor(PixelNet(context=True), variables(channels=1), info, window=(16, 16))
    expected = predictor(np.where(hole, np.float32(0.4), values)).labels
    for labels in (predictor(path).labels, in_bands(predictor, path)):
        np.testing.assert_array_equal(labels, np.where(hole, 255, expected))
    # A mask page of GDAL's says the same.
    with tifffile.TiffWriter(path) as writer:
        writer.write(values, photometric="minisblack", metadata=None)
        writer.write(~hole, photometric="mask", subfiletype=4, metadata=None)
    for labels in (predictor(path).labels, in_bands(predictor, path)):
        np.testing.assert_array_equal(labels, np.where(hole, 255, expected))


def test_value_that_the_data_set_declared_is_void_as_well(tmp_path) -> None:
    config = from_dict({"data": {"name": "folder", "options": {"nodata": 7}}})
    info = dataclasses.replace(INFO, channels=1, mean=(90.0,), std=(50.0,))
    image = images(1, 12, 12, channels=1)[0, ..., 0]
    image[2:4] = 7
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor(PixelNet(), variables(channels=1), info, config=config)
    labels = predictor(tmp_path / "a.png").labels
    np.testing.assert_array_equal(labels == 255, image == 7)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["grey", "palette", "one bit", "alpha"])
def test_other_kinds_of_tiff_agree_with_the_whole_image(tmp_path, kind: str, orientation: int) -> None:
    image = images(1, 40, 52)[0]
    path = tmp_path / "a.tif"
    turned = [(274, 3, 1, orientation, True)]
    if kind == "palette":
        colours = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
        tifffile.imwrite(path, image[..., 0], photometric="palette", colormap=colours, extratags=turned)
    elif kind == "alpha":
        four = np.concatenate([image, image[..., :1]], -1)
        tifffile.imwrite(path, four, photometric="rgb", extrasamples=["unassalpha"], extratags=turned)
    else:
        array = image[..., 0] if kind == "grey" else image[..., 0] > 90
        tifffile.imwrite(path, array, photometric="miniswhite", extratags=turned)
    predictor = Predictor(PixelNet(context=True), variables(), INFO, window=(16, 16))
    labels = predictor(path).labels
    assert labels.shape == ((40, 52) if orientation == 1 else (52, 40))
    np.testing.assert_array_equal(in_bands(predictor, path), labels)


def test_one_huge_compressed_strip_is_refused(tmp_path, monkeypatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", images(1, 40, 52)[0], photometric="rgb", compression="zlib", rowsperstrip=40)
    monkeypatch.setattr("segjax.inference.large._LARGEST_BLOCK", 40 * 52 * 3 - 1)
    predictor = Predictor(PixelNet(), variables(), INFO, window=(16, 16))
    with pytest.raises(DataError, match=r"a\.tif: 6,240 bytes in one compressed strip.*TILED=YES"):
        in_bands(predictor, tmp_path / "a.tif")


def test_files_above_the_threshold_go_that_way(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folder, "LARGE", 1000)
    image = images(1, 40, 52)[0]
    place = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (34737, 2, 0, "WGS 84|", True)]
    for name in ("large", "damaged"):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="rgb", rowsperstrip=4, extratags=place)
    cut = tmp_path / "damaged.tif"
    data = bytearray(cut.read_bytes())
    with tifffile.TiffFile(cut) as file:  # the last strip's place leads out of the file
        tag = file.pages[0].tags["StripOffsets"]
        at = tag.valueoffset + 4 * 9
    data[at : at + 4] = (2**31).to_bytes(4, "little")
    cut.write_bytes(data)
    tifffile.imwrite(tmp_path / "small.tif", image[:20, :20], photometric="rgb", extratags=place)
    predictor = Predictor(PixelNet(), variables(), INFO, window=(16, 16))
    paths = sorted(tmp_path.glob("*.tif"))
    targets = [tmp_path / "out" / f"{path.stem}.png" for path in paths]
    done = {path.stem: error for path, error in label_files(predictor, paths, targets, large_suffix=".tif")}
    assert done["large"] is done["small"] is None
    assert "damaged or truncated" in str(done["damaged"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["large.tif", "small.png"]
    with tifffile.TiffFile(tmp_path / "out" / "large.tif") as file:
        page = file.pages[0]
        np.testing.assert_array_equal(page.asarray(), predictor(image).labels)
        assert page.tags["ModelPixelScaleTag"].value == (0.5, 0.5, 0.0)
        assert page.tags["GeoAsciiParamsTag"].value == "WGS 84|"
        assert page.tags["GDAL_NODATA"].value == "255"
    (_, error), *_ = label_files(predictor, [tmp_path / "large.tif"], targets[:1], overlay=True)
    assert "--overlay needs the whole" in str(error)


@pytest.mark.parametrize("classes", [4, 300])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_written_files_are_read_by_others(tmp_path, suffix: str, classes: int, monkeypatch) -> None:
    monkeypatch.setattr(label_writer, "_BIG", 300 * 400 if classes == 4 else 2**40)  # BigTIFF beyond
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, (301, 400))
    palette = [tuple(row) for row in rng.integers(0, 256, (classes, 3)).tolist()]
    path = tmp_path / f"a{suffix}"
    label_writer.write_labels(path, [labels[:7], labels[7:290], labels[290:]], labels.shape, palette)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), labels)
        assert picture.mode == ("P" if classes == 4 else "I;16")
        if classes == 4:
            assert picture.getpalette()[:12] == np.ravel(palette).tolist()
    if suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff == (classes == 4)
            assert file.pages[0].tile == (256, 256)
            assert ("GDAL_NODATA" in file.pages[0].tags) == (classes == 4)


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path) -> None:
    def bands():
        yield np.zeros((4, 8), np.uint8)
        raise DataError("no more")

    for suffix in (".png", ".tif"):
        with pytest.raises(DataError, match="no more"):
            label_writer.write_labels(tmp_path / f"a{suffix}", bands(), (8, 8), INFO.palette)
    assert not list(tmp_path.iterdir())
