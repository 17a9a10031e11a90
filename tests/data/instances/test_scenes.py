"""Scenes hand on the instances that they render."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from segjax.core.config import Data
from segjax.core.errors import DataError
from segjax.data.dataset import open_dataset
from segjax.data.scenes import PANOPTIC_FACTOR, THINGS, SceneSource

SMALL = {"height": 64, "width": 80, "count": 6, "style": "mixed"}


@pytest.mark.parametrize("min_pixels", [1, 8])
def test_instances_are_the_renderers(min_pixels: int) -> None:
    source = SceneSource("train", annotations=("instance",), min_pixels=min_pixels, **SMALL)
    small = 0
    for index in range(6):
        scene, sample = source.scene(index), source[index]
        ids = np.where(scene["instance"] > 0, scene["panoptic"], 0)
        found = [ident for ident in np.unique(ids[ids > 0]) if (ids == ident).sum() >= min_pixels]
        small += len(np.unique(ids[ids > 0])) - len(found)
        assert sample["instance"].shape == (64, 80, 1)
        assert sample["instance"].dtype == np.uint8
        assert len(found) == len(sample["instance_class"])
        for slot, ident in enumerate(found):
            mask = sample["instance"][..., 0] == slot + 1
            np.testing.assert_array_equal(mask, ids == ident)
            assert sample["instance_class"][slot] == ident // PANOPTIC_FACTOR
            assert (scene["label"][mask] == sample["instance_class"][slot]).all()
            assert sample["instance_area"][slot] == mask.sum()
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(sample["instance_box"][slot], box)
        assert not np.isin(sample["instance"][..., 0], np.arange(1, len(found) + 1), invert=True)[mask].any()
        np.testing.assert_array_equal(sample["label"], SceneSource("train", **SMALL)[index]["label"])
    assert (small > 0) == (min_pixels > 1)


def test_data_set() -> None:
    dataset = open_dataset(Data(options={**SMALL, "annotations": "instance", "max_instances": 5}))
    assert dataset.info.things == tuple(sorted(THINGS))
    assert (dataset.info.layers, dataset.info.max_instances) == (1, 5)
    source = pickle.loads(pickle.dumps(dataset.split("train")))
    sample, again = source[2], source[2]
    assert len(sample["instance_class"]) == 5  # a field of cells, which has more
    for key in sample:
        np.testing.assert_array_equal(sample[key], again[key])
    plain = open_dataset(Data(options=SMALL))
    assert plain.info.things == ()
    assert set(plain.split("train")[0]) == {"image", "label", "name"}


def test_clips() -> None:
    source = SceneSource("train", annotations=("instance",), frames=3, min_pixels=1, height=48, width=64)
    sample = source[0]
    for frame in range(3):
        scene = source.scene(0, frame)
        np.testing.assert_array_equal(sample["image"][frame], scene["image"])
        np.testing.assert_array_equal(sample["label"][frame], scene["label"])
        for thing in np.unique(scene["instance"])[1:]:
            # A thing of the street has one class, so one slot, in all frames.
            slots = np.unique(sample["instance"][frame, ..., 0][scene["instance"] == thing])
            assert len(slots) == 1
            assert slots[0]
    first, last = (set(np.unique(sample["instance"][frame])) for frame in (0, 2))
    assert len(first & last) > 2
    assert sample["instance_area"].sum() * 3 == pytest.approx((sample["instance"] > 0).sum())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": ("depht",)}, "no annotation 'depht'"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"frames": 0}, "frames"),
    ],
)
def test_bad_options_are_one_line(options, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        SceneSource("train", **options)
    assert "\n" not in str(caught.value)
