"""The fingerprint against what PIL and numpy read off the files, and widths against geometry; shares of a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.core.config import Data
from segjax.core.errors import ConfigError
from segjax.data.dataset import open_dataset
from segjax.data.fingerprint import fingerprint, training_split
from tests.data.tiny_sets import make_folder


def _folder(root: Path, labels: list[np.ndarray], classes: int = 2, split: str = "train") -> Path:
    make_folder(root, splits={split: len(labels)}, classes=classes)
    for index, label in enumerate(labels):
        Image.fromarray(label.astype(np.uint8)).save(root / split / "labels" / f"{index:02d}.png")
        picture = np.zeros((*label.shape, 3), np.uint8)
        Image.fromarray(picture).save(root / split / "images" / f"{index:02d}.png")
    return root


def _open(root: Path, tmp_path: Path):
    return open_dataset(Data(name="folder", root=str(root), cache=str(tmp_path / "cache")))


def test_sizes_shares_and_void_are_the_files(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [(10, 31), (20, 12), (14, 50), (11, 13), (40, 21)]
    labels = [rng.choice([0, 1, 2, 255], size, p=[0.6, 0.3, 0.05, 0.05]) for size in sizes]
    found = fingerprint(_open(_folder(tmp_path / "set", labels, classes=3), tmp_path), "train")

    read = [np.array(Image.open(path)) for path in sorted((tmp_path / "set" / "train" / "labels").iterdir())]
    everything = np.concatenate([label.ravel() for label in read])
    known = everything[everything != 255]
    assert found.shares == pytest.approx([(known == k).mean() for k in range(3)])
    assert found.void == pytest.approx((everything == 255).mean())
    assert found.median == (14, 21)
    assert found.largest == (40, 50)
    assert found.splits == {"train": 5}
    assert found.images == found.looked_at == 5
    assert len(found.lines()) == 4


def test_at_most_64_images_from_all_over_the_split_are_looked_at(tmp_path, monkeypatch):
    labels = [np.full((4, 4 + index), index >= 50) for index in range(100)]
    dataset = _open(_folder(tmp_path / "set", labels), tmp_path)
    found = fingerprint(dataset, "train")
    assert found.looked_at == 64
    assert found.median[1] == pytest.approx(4 + 49.5, abs=6)
    assert fingerprint(dataset, "train") == found
    monkeypatch.setattr("segjax.data.fingerprint.PIXELS", 1000)
    assert 3 <= fingerprint(dataset, "train").looked_at <= 15
    areas = np.array([label.size for label in labels])
    assert found.shares[1] == pytest.approx(areas[50:].sum() / areas.sum())  # of all images, counted when prepared


def test_width_is_a_discs_radius_and_a_lines_width(tmp_path):
    rows, columns = np.mgrid[:128, :128]
    disc = (rows - 63.5) ** 2 + (columns - 63.5) ** 2 < 30**2
    found = fingerprint(_open(_folder(tmp_path / "disc", [disc]), tmp_path), "train")
    assert found.widths[1] == pytest.approx(30, rel=0.03)
    widths = []
    for angle in np.linspace(0, np.pi, 16, endpoint=False):
        across = (rows - 63.5) * np.cos(angle) + (columns - 63.5) * np.sin(angle)
        line = fingerprint(_open(_folder(tmp_path / f"{angle:.3f}", [abs(across) < 3]), tmp_path), "train")
        widths.append(line.thinnest)
    assert np.mean(widths) == pytest.approx(6, rel=0.08)
    assert min(widths) > 0.7 * 6
    assert max(widths) < 1.35 * 6


def test_void_is_nobodys_border(tmp_path):
    label = np.zeros((20, 20))
    label[:, 10:] = 255
    found = fingerprint(_open(_folder(tmp_path / "set", [label], classes=3), tmp_path), "train")
    assert found.widths == (None, None, None)
    assert found.thinnest is None
    assert found.void == 0.5


def test_training_split_is_train_or_the_largest():
    assert training_split({"val": 9, "train": 3}) == "train"
    assert training_split({"a": 2, "b": 5}) == "b"


def test_shares_of_a_split_are_disjoint_whole_and_always_the_same(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 11, "val": 2})
    names = []
    for _ in range(2):
        dataset = _open(root, tmp_path)
        sources = map(dataset.split, ("train[:80%]", "train[80%:]", "train[20%:60%]", "train[80%:]+val"))
        names.append([[source[k]["name"] for k in range(len(source))] for source in sources])
    assert names[0] == names[1]
    first, last, middle, joined = names[0]
    assert sorted(first + last) == [f"{k:02d}" for k in range(11)]
    assert (len(first), len(last), len(middle), len(joined)) == (9, 2, 5, 4)
    assert last != ["09", "10"]  # a random order: names are often sorted by what is to be seen


def test_counts_of_a_share_are_its_own(tmp_path):
    root = _folder(tmp_path / "set", [np.full((4, 4), k % 2) for k in range(10)])
    dataset = _open(root, tmp_path)
    source = dataset.split("train[:50%]")
    ones = sum(int(source[k]["label"].sum()) for k in range(len(source)))
    assert dataset.class_counts("train[:50%]")[0].tolist() == [16 * 5 - ones, ones]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train[80%:80%]", "no sample of 4"),
        ("train[90%:50%]", "no sample of 4"),
        ("train[:110%]", "no sample of 4"),
        ("train[:1%]", "no sample of 4"),
        ("trian[:80%]", "has train, val"),
        ("train[:80]", "has train, val"),
    ],
)
def test_a_share_that_cannot_be_is_one_line(tmp_path, text, says):
    dataset = _open(make_folder(tmp_path / "set"), tmp_path)
    with pytest.raises(ConfigError, match=says) as caught:
        dataset.split(text)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
