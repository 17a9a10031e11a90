"""Samples with instances through the pipeline and the transform: windows, padding, views, images without objects."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from coco_sets import SIZE, make_coco

from segjax.core.config import Data
from segjax.core.errors import DataError
from segjax.core.fields import make_field
from segjax.data.augment import make_train_transform
from segjax.data.dataset import open_dataset
from segjax.data.options import InstanceAugment
from segjax.data.pipeline import eval_batches, train_batches

SLOTS = 4
PER_SLOT = {"instance_class": np.int32, "instance_crowd": np.bool_, "instance_area": np.float32}


def fields(size, layers: int):
    found = {"image": make_field("image", (*size, 3), np.uint8)}
    found["instance"] = make_field("instance", (*size, layers), np.uint8)
    found |= {key: make_field(key, (SLOTS,), dtype) for key, dtype in PER_SLOT.items()}
    return found | {"instance_valid": make_field("instance_valid", (SLOTS,), np.bool_)}


def collate(sample):
    count = len(sample["instance_class"])
    padded = {key: np.pad(sample[key], (0, SLOTS - count)) for key in PER_SLOT}
    return {**sample, **padded, "instance_valid": np.arange(SLOTS) < count}


@pytest.fixture
def source(tmp_path):
    """Image 0 has two objects, images 1 and 2 none."""
    root = make_coco(
        tmp_path / "set", [{}, {"category_id": 7, "segmentation": [[20, 5, 28, 5, 28, 12, 20, 12]]}], images=3
    )
    dataset = open_dataset(Data(name="coco", root=str(root), cache=str(tmp_path / "cache")))
    return dataset.split("train"), dataset.info


def test_images_without_objects_are_trained_on(source) -> None:
    """Every epoch has them, and augmentation leaves them without objects."""
    split, info = source
    batches = train_batches(split, fields(SIZE, 1), batch_size=3, seed=0, collate=collate)
    transform = jax.jit(make_train_transform(InstanceAugment(copy_paste=1.0), info, SIZE))
    for step in range(3):
        batch = next(batches)
        assert sorted(batch["instance_valid"].sum(1).tolist()) == [0, 0, 2]
        out = jax.device_get(transform(jax.random.key(step), batch))
        assert np.isfinite(out["image"]).all()
        for image in range(3):
            shown = np.unique(out["instance"][image])[1:]
            np.testing.assert_array_equal(np.flatnonzero(out["instance_valid"][image]) + 1, shown)


def test_windows_cut_image_and_layers_alike(source) -> None:
    split, _ = source
    whole = split[0]
    batch = next(train_batches(split, fields((9, 11), 1), batch_size=3, seed=1, collate=collate))
    place = int(np.argmax(batch["instance_valid"].sum(1)))
    windows = np.lib.stride_tricks.sliding_window_view(whole["image"], (9, 11), axis=(0, 1))
    found = (np.moveaxis(windows, 2, -1) == batch["image"][place]).all((2, 3, 4))
    top, left = np.argwhere(found)[0]
    np.testing.assert_array_equal(batch["instance"][place], whole["instance"][top : top + 9, left : left + 11])


def test_evaluation_pads_with_nothing(source) -> None:
    split, _ = source
    batch = next(eval_batches(split, fields((24, 32), 1), batch_size=4, collate=collate))
    np.testing.assert_array_equal(batch["sample"], [0, 1, 2, 3])
    np.testing.assert_array_equal(batch["valid"], [True, True, True, False])
    np.testing.assert_array_equal(batch["instance"][0, :20, :30], split[0]["instance"])
    assert not batch["instance"][:, 20:].any()
    assert not batch["instance_valid"][1:].any()
    np.testing.assert_array_equal(batch["instance_class"][0], [0, 1, 0, 0])


def test_what_sets_without_instances_or_labels_say(tmp_path, source) -> None:
    from segjax.data.fingerprint import fingerprint

    with pytest.raises(DataError, match=r"scenes.*annotations=\('instance',\)"):
        open_dataset(Data()).require_instances()
    dataset = open_dataset(Data(name="coco", root=str(tmp_path / "set"), cache=str(tmp_path / "cache")))
    dataset.require_instances()
    with pytest.raises(DataError, match="it has instances and no labels, so there is nothing to learn"):
        dataset.require_classes("train")
    with pytest.raises(DataError, match="it has instances and no labels, so there is nothing to score"):
        dataset.require_labels("train[:50%]")
    with pytest.raises(DataError, match="it has instances and no labels"):
        fingerprint(dataset, "train")
