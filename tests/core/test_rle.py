"""Run lengths and polygons of COCO, against pycocotools and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segjax.core import rle
from segjax.core.errors import DataError


@pytest.fixture
def reference():
    return pytest.importorskip("pycocotools.mask")


def random_masks(count: int):
    rng = np.random.default_rng(0)
    for index in range(count):
        size = rng.integers(1, 70, 2)
        yield (rng.random(size) < rng.random()) if index % 3 else np.full(size, index % 2 == 0)


def test_masks_are_packed_as_coco_packs_them(reference) -> None:
    for mask in random_masks(60):
        packed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts = rle.encode(mask)
        assert rle.compress(counts) == packed["counts"].decode()
        assert rle.decompress(rle.compress(counts)) == counts
        np.testing.assert_array_equal(rle.decode(packed["counts"], mask.shape), mask)
        np.testing.assert_array_equal(rle.decode(counts, mask.shape), mask)
        assert rle.area(counts) == reference.area(packed) == mask.sum()
        np.testing.assert_array_equal(rle.to_box(counts, mask.shape), reference.toBbox(packed))


def test_long_counts_are_packed_as_coco_packs_them(reference) -> None:
    mask = np.zeros((3000, 3000), np.uint8, order="F")
    mask[10:2000, 5] = mask[:, 1000:1700] = mask[2999, 2999] = 1
    assert rle.compress(rle.encode(mask)) == reference.encode(mask)["counts"].decode()


@pytest.mark.parametrize("intersect", [False, True])
def test_merged_masks(reference, intersect: bool) -> None:
    rng = np.random.default_rng(1)
    masks = rng.random((3, 20, 30)) < 0.6
    packed = [reference.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    merged = rle.merge([rle.encode(mask) for mask in masks], (20, 30), intersect=intersect)
    assert rle.compress(merged) == reference.merge(packed, intersect)["counts"].decode()
    assert rle.merge([], (2, 3)) == [6]


@pytest.mark.parametrize("grid", [0, 1, 5])
def test_polygons_are_cocos_count_for_count(reference, grid: int) -> None:
    rng = np.random.default_rng(grid)
    for _ in range(200):
        size = tuple(int(n) for n in rng.integers(1, 50, 2))
        points = rng.uniform(-15, 65, (rng.integers(3, 10), 2))
        points = np.round(points * grid) / grid if grid else points
        packed = reference.frPyObjects([points.ravel().tolist()], *size)[0]
        counts = rle.polygon(points, size)
        assert rle.compress(counts) == packed["counts"].decode()


def test_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert rle.encode(mask) == [2, 1, 1, 2]
    assert rle.encode(~mask) == [0, 2, 1, 1, 2]
    np.testing.assert_array_equal(rle.decode([2, 1, 1, 2], (2, 3)), mask)
    assert rle.to_box([2, 1, 1, 2], (2, 3)) == (1, 0, 2, 2)
    assert rle.to_box([6], (2, 3)) == (0, 0, 0, 0)
    assert rle.polygon(np.array([(1, 0), (3, 0), (3, 1), (1, 1)]), (2, 4)) == [2, 1, 1, 1, 3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rle.decode([5, 4], (5, 5)), "the runs have 9 pixels, the size 5x5"),
        (lambda: rle.decode([30, -5], (5, 5)), "whole numbers"),
        (lambda: rle.decode([24.0, 1], (5, 5)), "whole numbers"),
        (lambda: rle.decode("\x00~", (5, 5)), "damaged"),
        (lambda: rle.decode("PPPP", (5, 5)), "end in the middle"),
        (lambda: rle.merge([[5, 4]], (5, 5)), "the runs have 9 pixels"),
        (lambda: rle.polygon(np.zeros((2, 2)), (5, 5)), "2 points"),
        (lambda: rle.polygon(np.full((3, 2), 1e12), (5, 5)), "far from an image of 5x5"),
        (lambda: rle.polygon(np.full((3, 2), np.nan), (5, 5)), "far from an image of 5x5"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(call, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
