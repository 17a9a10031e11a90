"""The sides of benchmarks/input_pipeline.py do the same work: the same crops and labels for the same windows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from benchmarks.input_pipeline import (
    BATCH,
    Case,
    pairs,
    read_cv2,
    read_cv2_rgb,
    read_pil,
    segjax_batches,
    tf_batches,
    torch_batches,
    write_set,
)


@pytest.fixture(params=["jpg", "png"])
def case(request):
    return Case(request.param, size=(40, 56), crop=(24, 32), files=BATCH, images=BATCH)


@pytest.fixture
def folder(tmp_path, case):
    def pictures():
        rng = np.random.default_rng(0)
        rows, columns = np.mgrid[:40, :56]
        for index in range(case.files):
            # Colours that change slowly, so that JPEG decoders agree, and differ between channels, so that order shows.
            image = np.stack([3 * rows + index, 3 * columns, 200 - 2 * rows], -1)
            yield image.astype(np.uint8), rng.integers(0, 12, (40, 56)).astype(np.uint8)

    write_set(tmp_path, case, pictures())
    return tmp_path


def _batch(batches):
    return [np.asarray(array) for array in next(iter(batches))]


def _window(crop, whole):
    found = [
        (top, left)
        for top, left in itertools.product(*(range(h - c + 1) for h, c in zip(whole.shape, crop.shape)))
        if (whole[top : top + crop.shape[0], left : left + crop.shape[1]] == crop).all()
    ]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def expected(folder, case):
    """Images and labels of segjax's first batch, and the windows it drew, found by the labels."""
    images, labels = _batch(segjax_batches(folder, case, [], prepared=True))
    files = [np.asarray(Image.open(label)) for _, label in pairs(folder)]
    windows = [_window(crop, whole) for crop, whole in zip(labels, files)]
    assert len(set(windows)) > 1
    return images, labels, windows


def _agree(found, expected, case, tolerance):
    images, labels = found
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected[1])
    assert images.shape == expected[0].shape
    difference = np.abs(images.astype(int) - expected[0])
    assert difference.max() <= (tolerance if case.suffix == "jpg" else 0)


def test_the_files_give_what_the_prepared_copy_gives(folder, case, expected):
    _agree(_batch(segjax_batches(folder, case, [], prepared=False)), expected, case, 0)


@pytest.mark.parametrize("read", [read_cv2, read_cv2_rgb, read_pil])
def test_torch_cuts_the_same(folder, case, expected, read):
    pytest.importorskip("torch")
    _agree(_batch(torch_batches(folder, case, expected[2], workers=0, read=read)), expected, case, 2)


def test_tf_data_cuts_the_same(folder, case, expected):
    pytest.importorskip("tensorflow")
    _agree(_batch(tf_batches(folder, case, expected[2])), expected, case, 6)


def test_random_windows_have_the_crop_s_size(folder, case):
    pytest.importorskip("torch")
    images, labels = _batch(torch_batches(folder, case, None, workers=0, read=read_cv2))
    assert images.shape == (BATCH, 24, 32, 3)
    assert labels.shape == (BATCH, 24, 32)
