"""The real data sets, where they are at hand: sizes and class counts against their published description."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_sets import shared

from segjax.core.config import Data
from segjax.core.schema import IGNORE, IMAGE, LABEL
from segjax.data import builders
from segjax.data.dataset import open_dataset
from segjax.data.labels import read_label


def test_camvid_test_pixels():
    layout = builders.layout("camvid", shared("camvid"))
    assert {split: len(samples) for split, samples in layout.splits.items()} == {"train": 367, "val": 101, "test": 233}
    assert not layout.orphans
    counts = np.zeros(256, np.int64)
    for sample in layout.splits["test"]:
        counts += np.bincount(read_label(sample.label, layout)[1].ids.ravel(), minlength=256)
    expected = [6870982, 9906732, 473895, 10390661, 3731857, 4530895, 406612, 476807, 1599124, 255232, 76220]
    np.testing.assert_array_equal(counts[:11], expected)
    assert counts[IGNORE] == 1543383
    assert counts.sum() == 233 * 360 * 480


@pytest.mark.parametrize(
    ("name", "splits", "size", "channels"),
    [
        ("isbi2012", {"train": 24, "val": 6}, (512, 512), 1),
        ("crackforest", {"train": 89, "test": 29}, (320, 480), 3),
    ],
)
def test_sizes(tmp_path, name, splits, size, channels):
    dataset = open_dataset(Data(name=name, root=str(shared(name)), cache=str(tmp_path)))
    assert {split: len(source) for split, source in dataset.splits.items()} == splits
    sample = dataset.split("train")[3]
    assert sample[IMAGE].shape == (*size, channels)
    assert set(np.unique(sample[LABEL])) == {0, 1}
    pixels, area = dataset.class_counts("train")
    assert pixels.sum() == splits["train"] * size[0] * size[1]
    assert (area == pixels.sum()).all()


def test_drive_is_void_outside_the_field_of_view(tmp_path):
    root = str(shared("drive"))
    inside = open_dataset(Data(name="drive", root=root, cache=str(tmp_path)))
    whole = open_dataset(Data(name="drive", root=root, cache=str(tmp_path), options={"fov": False}))
    assert {split: len(source) for split, source in inside.splits.items()} == {"train": 20, "test": 20}
    one, other = inside.split("test")[0][LABEL], whole.split("test")[0][LABEL]
    assert one.shape == (584, 565)
    assert set(np.unique(other)) == {0, 1}
    np.testing.assert_array_equal(one[one != IGNORE], other[one != IGNORE])
    assert 0.25 < (one == IGNORE).mean() < 0.40  # the view is a disc of about 540 pixels
    assert one[0, 0] == IGNORE
