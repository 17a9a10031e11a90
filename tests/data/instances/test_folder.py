"""Instances of a `folder`: pictures of ids, alone, beside labels, and panoptic."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_sets import shared

from segjax.cli.main import main
from segjax.core.config import Data
from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import IGNORE, LABEL
from segjax.data.check import check
from segjax.data.dataset import open_dataset

IDS = np.array([[0, 0, 9, 9], [7, 7, 0, 9], [7, 300, 300, 0]], np.uint16)


def opened(root, tmp_path, **options):
    return open_dataset(Data(name="folder", root=str(root), cache=str(tmp_path / "cache"), options=options))


@pytest.fixture
def make(tmp_path):
    """Writes a set of one image with pictures {folder: array} and lists {file: text}."""

    def write(pictures: dict[str, np.ndarray], **lists: str):
        root = tmp_path / "set"
        size = next(iter(pictures.values())).shape[:2]
        for folder, array in {"images": np.zeros((*size, 3), np.uint8), **pictures}.items():
            (root / "train" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / "train" / folder / "a.png")
        for name, text in lists.items():
            (root / f"{name}.txt").write_text(text)
        return root

    return write


@pytest.mark.parametrize(
    ("split", "images", "nuclei"), [("val", 74, 2087), pytest.param("train", 260, 7456, marks=pytest.mark.slow)]
)
def test_nuclei(tmp_path, split: str, images: int, nuclei: int) -> None:
    """Every 16-bit id of the pictures is an instance, with all of its pixels."""
    root = tmp_path / "set"
    root.mkdir()
    (root / split).symlink_to(shared("nuclei") / split)
    dataset = opened(root, tmp_path, classes=("nucleus",), max_instances=200)
    assert dataset.info.classes == ("nucleus",)
    assert dataset.info.things == (0,)
    assert dataset.info.layers == 1
    assert len(dataset.split(split)) == images
    found = 0
    for place, path in enumerate(sorted((root / split / "instances").iterdir())):
        sample, ids = dataset.split(split)[place], np.asarray(Image.open(path)).astype(int)
        assert sample["name"] == path.stem
        assert LABEL not in sample
        values = np.unique(ids[ids > 0])
        np.testing.assert_array_equal(sample["instance"][..., 0], np.searchsorted(values, ids) * (ids > 0) + (ids > 0))
        np.testing.assert_array_equal(sample["instance_class"], np.zeros(len(values)))
        found += len(values)
    assert found == nuclei


def test_ids_of_one_class(make, tmp_path) -> None:
    sample = opened(make({"instances": IDS}, classes="cell\n"), tmp_path).split("train")[0]
    np.testing.assert_array_equal(sample["instance"][..., 0], [[0, 0, 2, 2], [1, 1, 0, 2], [1, 3, 3, 0]])
    np.testing.assert_array_equal(sample["instance_area"], [3, 3, 2])
    np.testing.assert_array_equal(sample["instance_box"], [[0, 1, 2, 3], [2, 0, 4, 2], [1, 2, 3, 3]])
    assert not sample["instance_crowd"].any()


def test_the_class_is_that_of_the_label(make, tmp_path) -> None:
    """Of most of an instance's pixels, among the classes that have instances."""
    label = np.array([[0, 0, 1, 0], [2, 2, 0, 1], [1, 2, 2, 0]], np.uint8)
    lists = {"classes": "ground\ncat\ndog\n", "things": "dog\ncat\n"}
    root = make({"labels": label, "instances": IDS}, **lists)
    dataset = opened(root, tmp_path)
    assert dataset.info.things == (1, 2)
    sample = dataset.split("train")[0]
    np.testing.assert_array_equal(sample[LABEL], label)
    np.testing.assert_array_equal(sample["instance_class"], [2, 1, 2])
    only = opened(root, tmp_path, annotations="label")
    assert only.info.things == ()
    assert set(only.split("train")[0]) == {"image", "label", "name"}


def test_an_instance_on_no_thing_is_named(make, tmp_path) -> None:
    root = make({"labels": np.zeros((3, 4), np.uint8), "instances": IDS}, classes="ground\ncat\n", things="cat\n")
    message = r"instances/a\.png: id 7 on 3 pixels: instance on no thing class of the label; correct it"
    with pytest.raises(DataError, match=message):
        opened(root, tmp_path)
    assert len(opened(root, tmp_path, skip_bad=True).split("train")[0]["instance_class"]) == 0


def test_coded_ids(make, tmp_path) -> None:
    """Cityscapes' instanceIds: 1000 * class + number; the class alone is a group of a thing, or stuff."""
    ids = np.array([[7, 26000, 26001, 24], [26000, 26000, 24003, 24]], np.int32)
    root = make({"instances": ids.astype(np.uint16)}, classes="person\ncar\n")
    dataset = opened(root, tmp_path, factor=1000, values={24: 0, 26: 1}, ignore=tuple(range(24)))
    sample = dataset.split("train")[0]
    np.testing.assert_array_equal(sample["instance"][..., 0], [[0, 3, 4, 1], [3, 3, 2, 1]])
    np.testing.assert_array_equal(sample["instance_class"], [0, 0, 1, 1])
    np.testing.assert_array_equal(sample["instance_crowd"], [True, False, True, False])
    with pytest.raises(DataError, match=r"id 7 on 1 pixels: unknown class value; correct it"):
        opened(root, tmp_path, factor=1000, values={24: 0, 26: 1})


@pytest.mark.parametrize("coloured", [False, True])
def test_panoptic(make, tmp_path, coloured: bool) -> None:
    ids = np.array([[0, 0, 1001, 1001], [2, 1002, 1002, 255], [1, 2, 2, 255]], np.int32)
    picture = np.stack([ids % 256, ids // 256, ids * 0], -1).astype(np.uint8) if coloured else ids.astype(np.uint16)
    dataset = opened(make({"panoptic": picture}, classes="road\ncar\nsky\n", things="car\n"), tmp_path)
    assert dataset.info.things == (1,)
    sample = dataset.split("train")[0]
    np.testing.assert_array_equal(sample[LABEL], [[0, 0, 1, 1], [2, 1, 1, IGNORE], [1, 2, 2, IGNORE]])
    np.testing.assert_array_equal(sample["instance"][..., 0], [[0, 0, 2, 2], [0, 3, 3, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(sample["instance_crowd"], [True, False, False])
    pixels, _ = dataset.class_counts("train")
    np.testing.assert_array_equal(pixels, [2, 5, 3])


def test_more_than_255_instances(make, tmp_path) -> None:
    ids = np.arange(1, 301, dtype=np.uint16).reshape(15, 20)
    dataset = opened(make({"instances": ids}, classes="cell\n"), tmp_path, max_instances=400)
    layers = dataset.split("train")[0]["instance"]
    assert layers.dtype == np.uint16
    np.testing.assert_array_equal(layers[..., 0], ids)
    few = opened(tmp_path / "set", tmp_path, max_instances=255).split("train")[0]["instance"]
    assert few.dtype == np.uint8
    assert few.max() == 255


def test_layers_are_those_of_the_set(make, tmp_path) -> None:
    """An image that needs fewer layers than another one has empty ones."""
    from segjax.core.schema import DatasetInfo
    from segjax.data.decode import encode_image
    from segjax.data.instances.objects import make_instances
    from segjax.data.records import decode_record, encode_instances

    layers = np.random.default_rng(0).integers(0, 4, (5, 7, 2)).astype(np.uint8)
    record = encode_instances(make_instances(layers, [0, 0, 0])) | {
        "image": encode_image(np.zeros((5, 7, 3), np.uint8))
    }
    info = DatasetInfo("x", ("a",), ((0, 0, 0),), things=(0,), layers=3, max_instances=3)
    found = decode_record(record, info)["instance"]
    np.testing.assert_array_equal(found[..., :2], layers)
    assert found.shape == (5, 7, 3)
    assert not found[..., 2].any()


def test_missing_and_other_files(make, tmp_path, capsys) -> None:
    root = make({"labels": np.eye(4, dtype=np.uint8), "instances": np.eye(4, dtype=np.uint8)}, classes="a\nb\n")
    with pytest.raises(DataError, match=r"things\.txt: no such file; write the names of the classes"):
        opened(root, tmp_path)
    (root / "things.txt").write_text("c\n")
    with pytest.raises(DataError, match=r"things\.txt: 'c' is no class of the set"):
        opened(root, tmp_path)
    (root / "things.txt").write_text("b\n")
    Image.fromarray(np.eye(4, 5, dtype=np.uint8)).save(root / "train/instances/a.png")
    with pytest.raises(DataError, match="the file says 4x5, the image is 4x4"):
        opened(root, tmp_path)
    (root / "train/instances/a.png").rename(root / "train/instances/b.png")
    with pytest.raises(DataError, match=r"images/a\.png: no instance file \(1 images lack one\)"):
        opened(root, tmp_path)
    assert main(["data", "check", "folder", "--root", str(root)]) == 1
    text = capsys.readouterr().out
    assert "image without instances: 1" in text
    assert "label without an image: 1" in text


def test_a_semantic_set_is_prepared_as_before(tmp_path) -> None:
    """Its key does not change with the format of instances, so old copies are read."""
    from tiny_sets import make_folder

    from segjax.data import builders
    from segjax.data.prepare import listing_key, prepare

    root = make_folder(tmp_path / "set")
    layout = builders.layout("folder", root)
    key = listing_key("folder", root, layout.files(), {})
    assert prepare("folder", root, tmp_path / "cache").name == f"folder-{key}"
    assert listing_key("folder", root, layout.files(), {}, instances=True) != key


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "boxes"}, "annotations: 'boxes': not among"),
        ({"annotations": ("instance", "panoptic")}, "name one way"),
        ({"factor": 1}, "factor: 1 is not a number from 2"),
        ({"classes": ("a", "b")}, "factor: ids of several classes"),
    ],
)
def test_options(make, tmp_path, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(make({"instances": IDS}, classes="cell\n"), tmp_path, **options)


def test_check_counts_instances(make) -> None:
    report = check("folder", make({"instances": IDS}, classes="cell\n"))
    assert not report.problems
    counts = report.instances["train"]
    assert (counts.by_class.tolist(), counts.most, counts.layers, counts.without) == ([3], 3, 1, 0)
