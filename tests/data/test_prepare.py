"""Preparing a folder: what is read back, what is refused, and that nothing half-written stays."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_sets import make_folder, tiff

from segjax.core.config import Data
from segjax.core.errors import ConfigError, DataError, StorageError
from segjax.core.schema import IGNORE, IMAGE, IMAGENET_MEAN, LABEL, DatasetInfo
from segjax.data import builders, palettes
from segjax.data.dataset import open_dataset
from segjax.data.prepare import prepare


def _open(root, cache, **options):
    return open_dataset(Data(name="folder", root=str(root), cache=str(cache), options=options))


def _array(path):
    return np.asarray(Image.open(path))


def _fails(root, cache, error=DataError, **options):
    """The one-line message of a failed preparation, which must leave the cache empty."""
    with pytest.raises(error) as caught:
        _open(root, cache, **options)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())
    return str(caught.value)


def test_round_trip(tmp_path):
    root = make_folder(tmp_path / "set")
    dataset = _open(root, tmp_path / "cache")
    assert dataset.info.classes == ("class 0", "class 1", "class 2")
    assert dataset.info.palette == palettes.distinct(3)
    assert dataset.info.mean == IMAGENET_MEAN
    assert DatasetInfo.from_json(dataset.info.to_json()) == dataset.info
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 4, "val": 2}
    source = pickle.loads(pickle.dumps(dataset.split("train")))
    assert source.largest == (12, 16)
    for index in range(4):
        sample = source[index]
        assert sample["name"] == f"{index:02d}"
        np.testing.assert_array_equal(sample[IMAGE], _array(root / f"train/images/{index:02d}.png"))
        np.testing.assert_array_equal(sample[LABEL], _array(root / f"train/labels/{index:02d}.png"))
    assert len(dataset.split("train+val")) == 6
    with pytest.raises(IndexError):
        source[4]


def test_it_is_a_tfds_data_set(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    root = make_folder(tmp_path / "set")
    directory = prepare("folder", root, tmp_path / "cache")
    builder = tfds.builder_from_directory(directory)
    assert builder.info.splits["train"].num_examples == 4
    example = builder.as_data_source(split="val")[1]
    np.testing.assert_array_equal(example["image"], _array(root / "val/images/01.png"))
    np.testing.assert_array_equal(example["label"][..., 0], _array(root / "val/labels/01.png"))


def test_class_counts(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 3})
    label = np.zeros((12, 16), np.uint8)
    label[0] = IGNORE
    Image.fromarray(label).save(root / "train/labels/02.png")
    pixels, area = _open(root, tmp_path / "cache").class_counts("train")
    labels = np.stack([_array(path) for path in sorted((root / "train/labels").iterdir())])
    np.testing.assert_array_equal(pixels, [(labels == k).sum() for k in range(3)])
    np.testing.assert_array_equal(area, [3 * 192, 2 * 192, 2 * 192])
    assert pixels.dtype == np.int64


def test_the_cache_is_used_until_the_folder_changes(tmp_path, capsys):
    root, cache = make_folder(tmp_path / "set"), tmp_path / "cache"
    first = prepare("folder", root, cache)
    assert "preparing folder (6 images" in capsys.readouterr().err
    assert prepare("folder", root, cache) == first
    assert prepare("folder", shutil.copytree(root, tmp_path / "copy"), cache) == first  # copytree keeps times
    assert capsys.readouterr().err == ""
    assert prepare("folder", root, cache, {"ignore": (2,)}) != first
    os.utime(root / "train/labels/00.png", ns=(1, 1))
    assert prepare("folder", root, cache) != first


def test_other_layout_and_names(tmp_path):
    root = make_folder(tmp_path / "set", splits={"day": 2, "train": 1})
    other = tmp_path / "other"
    for split in ("day", "train"):
        for kind in ("images", "labels"):
            shutil.copytree(root / split / kind, other / kind / split)
    for path in (other / "labels").rglob("*.png"):
        path.rename(path.with_name(path.stem + "_mask.png"))
    (other / "images/day/Thumbs.db").write_text("x")
    (other / "images/day/.hidden.png").write_text("x")
    dataset = _open(other, tmp_path / "cache", classes=["a", "b", "c"], label_suffix="_mask")
    assert list(dataset.splits) == ["train", "day"]
    assert dataset.info.classes == ("a", "b", "c")
    np.testing.assert_array_equal(dataset.split("day")[1][LABEL], _array(root / "day/labels/01.png"))


@pytest.mark.parametrize("kind", ["npy", "tif"])
def test_five_channels_measure_their_own_statistics(tmp_path, kind):
    root = make_folder(tmp_path / "set", splits={"train": 2, "val": 1})
    rng, images = np.random.default_rng(0), []
    for split, count in (("train", 2), ("val", 1)):
        for index in range(count):
            image = rng.integers(0, 4000, (12, 16, 5)).astype(np.uint16)
            path = root / split / "images" / f"{index:02d}.png"
            path.unlink()
            if kind == "npy":
                np.save(path.with_suffix(".npy"), image)
            else:
                path.with_suffix(".tif").write_bytes(tiff(image))
            images.append(image)
    dataset = _open(root, tmp_path / "cache")
    assert dataset.info.channels == 5
    assert dataset.info.image_dtype == "uint16"
    train = np.stack(images[:2]).reshape(-1, 5).astype(np.float64)
    np.testing.assert_allclose(dataset.info.mean, train.mean(0), rtol=1e-12)
    np.testing.assert_allclose(dataset.info.std, train.std(0), rtol=1e-9)
    np.testing.assert_array_equal(dataset.split("val")[0][IMAGE], images[2])


def test_grey_images(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 2})
    for path in (root / "train/images").iterdir():
        Image.open(path).convert("L").save(path)
    dataset = _open(root, tmp_path / "cache")
    assert dataset.info.channels == 1
    assert dataset.split("train")[0][IMAGE].shape == (12, 16, 1)
    assert _open(root, tmp_path / "cache", channels=3).split("train")[0][IMAGE].shape == (12, 16, 3)


def test_palette_labels_and_ignored_values(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 1})
    path = root / "train/labels/00.png"
    ids = _array(path)
    image = Image.frombytes("P", (16, 12), ids.tobytes())
    image.putpalette(np.arange(768).astype(np.uint8).tobytes())
    image.save(path)
    np.testing.assert_array_equal(_open(root, tmp_path / "cache").split("train")[0][LABEL], ids)
    ignored = _open(root, tmp_path / "cache", ignore=1).split("train")[0][LABEL]
    np.testing.assert_array_equal(ignored, np.where(ids == 1, IGNORE, ids))


def test_masks_of_0_and_255(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 2}, classes=2)
    for path in (root / "train/labels").iterdir():
        Image.fromarray(_array(path) * 255).save(path)
    message = _fails(root, tmp_path / "cache")
    assert "set data.options.values={255: 1}" in message
    for values in ({255: 1}, {"255": 1}):  # the command line's and JSON's keys
        dataset = _open(root, tmp_path / "cache", values=values)
        np.testing.assert_array_equal(np.unique(dataset.split("train")[0][LABEL]), [0, 1])


def test_unknown_value(tmp_path):
    root = make_folder(tmp_path / "set")
    path = root / "val/labels/01.png"
    label = _array(path).copy()
    label[:2, :5] = 9
    Image.fromarray(label).save(path)
    message = _fails(root, tmp_path / "cache")
    assert message.startswith(f"{path}: label value 9 on 10 pixels")
    assert f"`segjax data check folder --root {root}`" in message


def test_size_mismatch(tmp_path):
    root = make_folder(tmp_path / "set")
    Image.fromarray(np.zeros((12, 15), np.uint8)).save(root / "train/labels/03.png")
    message = _fails(root, tmp_path / "cache")
    assert message.startswith(f"{root}/train/labels/03.png: label is 12x15, its image 03.png is 12x16")


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_truncated_file(tmp_path, kind):
    root = make_folder(tmp_path / "set")
    path = root / "train" / kind / "02.png"
    path.write_bytes(path.read_bytes()[:-40])
    assert _fails(root, tmp_path / "cache").startswith(f"{path}: damaged or truncated")


def test_mixed_pixel_types(tmp_path):
    root = make_folder(tmp_path / "set")
    (root / "train/images/01.png").unlink()
    np.save(root / "train/images/01.npy", np.zeros((12, 16, 3), np.float32))
    assert "01.npy: float32 pixels where the set's first image has uint8" in _fails(root, tmp_path / "cache")


def test_missing_labels_are_counted(tmp_path):
    root = make_folder(tmp_path / "set")
    (root / "train/labels/01.png").unlink()
    (root / "val/labels/00.png").unlink()
    message = _fails(root, tmp_path / "cache")
    assert message.startswith(f"{root}/train/images/01.png: no label file (2 images lack one)")


def test_two_images_of_one_stem(tmp_path):
    root = make_folder(tmp_path / "set")
    shutil.copy(root / "train/images/01.png", root / "train/images/01.tif")
    assert "same stem" in _fails(root, tmp_path / "cache")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 classes"),
        ("a 1 2 3\nb\n", "1 of 2 classes have a colour"),
        ("a 1 2 300\n", r"line 1: colour \(1, 2, 300\)"),
        ("a 1 2 3\nb 1 2 3\n", "stands for two classes"),
        ("\n".join(f"c{k}" for k in range(256)), "256 classes"),
    ],
)
def test_class_lists(tmp_path, text, message):
    root = make_folder(tmp_path / "set")
    (root / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        builders.layout("folder", root)


def test_class_list_with_colours(tmp_path):
    root = make_folder(tmp_path / "set")
    (root / "classes.txt").write_text("dry land 10 20 30\nwater 0 0 255\n\nclass 7 1 2 3\n")
    layout = builders.layout("folder", root)
    assert layout.classes == ("dry land", "water", "class 7")
    assert layout.palette == ((10, 20, 30), (0, 0, 255), (1, 2, 3))
    assert layout.colours


def test_folders_and_options(tmp_path):
    root = make_folder(tmp_path / "set")
    with pytest.raises(DataError, match="no folder '/nowhere'"):
        builders.layout("folder", "/nowhere")
    with pytest.raises(DataError, match=r"give it with --root DIR, or --config\.data\.root=DIR"):
        builders.layout("camvid", None)
    with pytest.raises(DataError, match=r"holds no 'camvid' data set; expected train/\*\.jpg"):
        builders.layout("camvid", root / "val" / "images")
    with pytest.raises(DataError, match="Did you mean 'camvid'"):
        builders.layout("camvit", root)
    with pytest.raises(ConfigError, match=r"config\.data\.options\.clases: .* Did you mean 'classes'"):
        builders.layout("folder", root, {"clases": ["a"]})
    with pytest.raises(ConfigError, match=r"statistics: 'date' is not one of .* Did you mean 'data'"):
        builders.layout("folder", root, {"statistics": "date"})
    with pytest.raises(ConfigError, match="'five' is not a number of channels"):
        builders.layout("folder", root, {"channels": "five"})
    with pytest.raises(ConfigError, match="label value 7 -> class 5 is outside"):
        builders.layout("folder", root, {"values": {7: 5}})
    with pytest.raises(ConfigError, match="split 'test': the data set 'folder' has train, val"):
        _open(root, tmp_path / "cache").split("test")


def test_no_space_left(tmp_path, monkeypatch):
    from segjax.data.builders import base

    def full(*args, **options):
        raise RuntimeError("while writing") from OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    root = make_folder(tmp_path / "set")
    monkeypatch.setattr(base, "write", full)
    message = _fails(root, tmp_path / "cache", StorageError)
    assert "cannot be written (No space left on device)" in message
    assert "--cache" in message


def test_unwritable_cache(tmp_path):
    root = make_folder(tmp_path / "set")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        prepare("folder", root, tmp_path / "file")


def test_a_killed_preparation_leaves_no_prepared_copy(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 4})
    code = (
        "import os, sys\n"
        "from segjax.data.builders import base\n"
        "read = base.read_sample\n"
        "base.read_sample = lambda s, *a: os._exit(9) if s.name == '03' else read(s, *a)\n"
        "from segjax.data.prepare import prepare\n"
        "prepare('folder', sys.argv[1], sys.argv[2])\n"
    )
    cache = tmp_path / "cache"
    done = subprocess.run([sys.executable, "-c", code, str(root), str(cache)], capture_output=True, check=False)
    assert done.returncode == 9
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    assert len(_open(root, cache).split("train")) == 4


def test_scenes_are_a_data_set():
    dataset = open_dataset(Data(options={"count": 3, "eval_count": 2, "height": 32, "width": 48}))
    assert {name: len(source) for name, source in dataset.splits.items()} == {"train": 3, "val": 2, "test": 2}
    sample = dataset.split("train+val")[4]
    assert sample[IMAGE].shape == (32, 48, 3)
    assert dataset.split("train+val").largest == (32, 48)
    pixels, area = dataset.class_counts("train")
    labels = np.stack([dataset.split("train")[k][LABEL] for k in range(3)])
    np.testing.assert_array_equal(pixels, [(labels == k).sum() for k in range(dataset.info.num_classes)])
    assert area.max() == 3 * 32 * 48
    with pytest.raises(ConfigError, match=r"config\.data\.options\.heigth.*Did you mean 'height'"):
        open_dataset(Data(options={"heigth": 3}))


def test_a_write_that_fails_half_way(tmp_path):
    """The writer of ArrayRecord, in C++, meets a file size limit: one line, and nothing stays."""
    root = make_folder(tmp_path / "set", splits={"train": 4}, size=(64, 64))
    code = (
        "import resource, signal, sys\n"
        "from segjax.cli.main import main\n"
        "from segjax.data.builders import base\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "sys.exit(main(['data', 'prepare', 'folder', '--root', sys.argv[1], '--cache', sys.argv[2]]))\n"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "cache").iterdir())
