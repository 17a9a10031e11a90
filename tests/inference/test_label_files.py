from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from segjax.core.config import from_dict
from segjax.core.errors import DataError
from segjax.data.decode import image_size
from segjax.data.labels import read_ids
from segjax.inference.folder import label_files
from segjax.inference.predictor import Predictor
from segjax.inference.written import Written, meaning
from tests.inference.pixel_network import INFO, PixelNet, images, variables


def numbered(folder, count):
    """What the values of label files stand for, of classes without a list."""
    return meaning(folder, [f"class {k}" for k in range(count)], None, None)


def read_labels(path, count) -> np.ndarray:
    return read_ids(path, numbered(path.parent, count)).ids


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(PixelNet(context=True), variables(), INFO, batch_size=2)


def test_every_image_is_labelled_and_a_broken_one_told_of(predictor: Predictor, tmp_path) -> None:
    sizes = [(12, 16), (9, 13), (12, 16), (40, 60), (7, 7)]
    paths, arrays = [], []
    for i, (height, width) in enumerate(sizes):
        arrays.append(images(1, height, width, seed=i)[0])
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(arrays[-1]).save(paths[-1])
    broken = tmp_path / "broken.png"
    broken.write_bytes(paths[3].read_bytes()[:-200])
    five = tmp_path / "five.npy"
    np.save(five, np.zeros((8, 8, 5), np.uint8))
    every = [broken, *paths, five]
    targets = [tmp_path / "out" / f"{path.stem}.png" for path in every]
    done = dict(label_files(predictor, every, targets, overlay=True, probabilities=True))
    assert {path for path, error in done.items() if error is not None} == {broken, five}
    assert "truncated" in str(done[broken])
    assert "5 channels where 3 are expected" in str(done[five])
    for i, image in enumerate(arrays):
        labels = read_labels(tmp_path / "out" / f"{i}.png", 4)
        assert labels.shape == image.shape[:2]
        shares = np.load(tmp_path / "out" / "probabilities" / f"{i}.npy")
        assert shares.dtype == np.float16
        np.testing.assert_allclose(shares.astype(np.float32).sum(-1), 1, atol=5e-3)
        with Image.open(tmp_path / "out" / "overlays" / f"{i}.png") as picture:
            assert picture.size == (image.shape[1], image.shape[0])
    # The largest image fills its padded size exactly, so it is the one that a single call pads alike.
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "3.png", 4), predictor(arrays[3]).labels)
    assert not (tmp_path / "out" / "broken.png").exists()


def test_nothing_readable_is_no_crash(predictor: Predictor, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    found = list(label_files(predictor, [tmp_path / "a.png"], [tmp_path / "out.png"]))
    assert len(found) == 1
    assert "empty" in str(found[0][1])


def test_configured_size_is_used_where_the_image_fits(tmp_path) -> None:
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Watching(PixelNet):
        def apply(self, weights, views, train):
            seen.append(views.shape[1:3])
            return super().apply(weights, views, train)

    config = from_dict({"eval": {"size": [20, 24]}})
    predictor = Predictor(Watching(), variables(), INFO, config=config)
    for i, (height, width) in enumerate([(9, 8), (21, 8)]):
        Image.fromarray(images(1, height, width)[0]).save(tmp_path / f"{i}.png")
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    assert [error for _, error in label_files(predictor, paths, [path.with_suffix(".out") for path in paths])] == [
        None
    ] * 2
    assert sorted(set(seen)) == [(20, 24), (24, 8)]


def test_sizes_from_headers_are_those_of_the_decoded_image(tmp_path) -> None:
    predictor = Predictor(PixelNet(), variables(), INFO)
    image = images(1, 10, 14)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", image)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "c.jpg", exif=turned)
    Image.fromarray(image).save(tmp_path / "d.tif")
    for name, size in {"a.png": (10, 14), "b.npy": (10, 14), "c.jpg": (14, 10), "d.tif": (10, 14)}.items():
        assert image_size(tmp_path / name) == size
        assert predictor(tmp_path / name).labels.shape == size
    (tmp_path / "e.npy").write_bytes(b"\x93NUMPY nonsense")
    with pytest.raises(DataError, match=r"e\.npy"):
        image_size(tmp_path / "e.npy")


def test_many_channels_from_npy(tmp_path) -> None:
    info = dataclasses.replace(INFO, channels=5, mean=(0.0,) * 5, std=(1.0,) * 5, image_dtype="float32")
    predictor = Predictor(PixelNet(), variables(channels=5), info)
    image = np.random.default_rng(0).normal(size=(6, 9, 5)).astype(np.float32)
    np.save(tmp_path / "a.npy", image)
    (_, error), *_ = label_files(predictor, [tmp_path / "a.npy"], [tmp_path / "a.png"], overlay=True)
    assert error is None
    expected = (image.astype(np.float64) @ predictor.variables["params"]["kernel"]).argmax(-1)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", 4), expected)


def test_written_labels_are_checked(tmp_path) -> None:
    good = np.array([[0, 3, 255]], np.uint8)
    Image.fromarray(good).save(tmp_path / "grey.png")
    palette = Image.fromarray(good)
    palette.putpalette([7] * 768)
    palette.save(tmp_path / "palette.png")
    Image.fromarray(good.astype(np.uint16)).save(tmp_path / "deep.png")
    for name in ("grey", "palette", "deep"):
        np.testing.assert_array_equal(read_labels(tmp_path / f"{name}.png", 4), good)
    with pytest.raises(DataError, match=r"grey\.png: label 3 on 1 pixels.*classes 0\.\.2"):
        read_labels(tmp_path / "grey.png", 3)
    Image.fromarray(images(1, 4, 4)[0]).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="RGB picture, not class ids"):
        read_labels(tmp_path / "rgb.png", 4)
    (tmp_path / "cut.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cut\.png: damaged"):
        read_labels(tmp_path / "cut.png", 4)


def test_folder_of_predictions_names_what_is_missing_or_of_another_size(tmp_path) -> None:
    with pytest.raises(DataError, match="no folder"):
        Written(numbered(tmp_path / "absent", 4))
    predict = Written(numbered(tmp_path, 4))
    batch = {"label": np.zeros((2, 4, 4), np.uint8), "name": ["a", ""], "size": np.array([[3, 2], [0, 0]])}
    with pytest.raises(DataError, match=r"a\.png: no such file"):
        predict({}, batch)
    Image.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.png: no such file.*; a\.jpg is there, which is not read as a label"):
        predict({}, batch)
    Image.fromarray(np.ones((3, 2), np.uint8)).save(tmp_path / "a.Png", format="png")
    assert predict({}, batch)["label"][0, :3, :2].tolist() == [[1, 1]] * 3
    (tmp_path / "a.Png").unlink()
    Image.fromarray(np.ones((3, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 3x3, but the image a is 3x2"):
        predict({}, batch)
    Image.fromarray(np.ones((3, 2), np.uint8)).save(tmp_path / "a.png")
    found = predict({}, batch)["label"]
    assert found[0, :3, :2].tolist() == [[1, 1]] * 3
    assert (found == 255).sum() == 32 - 6
