"""Shapes to pixels, against COCO's own code, OpenCV, Pillow's definition of labelme, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_sets import shared

from segjax.core import rle
from segjax.data.annotations import shapes
from segjax.data.annotations.tally import Dropped, Tally


def filled(region: shapes.Region, size: tuple[int, int]) -> np.ndarray:
    whole = np.zeros(size, bool)
    whole[region.top : region.top + region.mask.shape[0], region.left : region.left + region.mask.shape[1]] = (
        region.mask
    )
    return whole


def by_rule(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    try:
        return filled(shapes.polygon(points, size), size)
    except Dropped:
        return np.zeros(size, bool)


@pytest.fixture
def reference():
    return pytest.importorskip("pycocotools.mask")


@pytest.mark.parametrize("grid", [0, 1, 2, 10])
def test_polygons_are_cocos_pixel_for_pixel(reference, grid: int) -> None:
    rng = np.random.default_rng(grid)
    drawn = 0
    for _ in range(400):
        height, width = (int(n) for n in rng.integers(1, 50, 2))
        points = rng.uniform(-15, 65, (rng.integers(3, 10), 2))
        if grid:
            points = np.round(points * grid) / grid
        if rng.random() < 0.2:
            points[-1] = points[0]
        expected = reference.decode(reference.frPyObjects([points.ravel().tolist()], height, width))[..., 0] > 0
        np.testing.assert_array_equal(by_rule(points, (height, width)), expected)
        drawn += expected.any()
    assert drawn > 200


def test_long_outlines_are_walked_in_parts(reference, monkeypatch) -> None:
    monkeypatch.setattr(rle, "_CHUNK", 64)
    points = np.random.default_rng(0).uniform(0, 40, (30, 2))
    expected = reference.decode(reference.frPyObjects([points.ravel().tolist()], 40, 40))[..., 0] > 0
    np.testing.assert_array_equal(by_rule(points, (40, 40)), expected)


def test_every_annotation_of_coco(reference) -> None:
    content = json.loads((shared("coco_tiny") / "instances_val.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    kinds = set()
    for annotation in content["annotations"]:
        size, segmentation = sizes[annotation["image_id"]], annotation["segmentation"]
        kinds.add(type(segmentation))
        if isinstance(segmentation, list):
            expected = reference.decode(reference.frPyObjects(segmentation, *size))
            for part, mask in zip(segmentation, np.moveaxis(expected, -1, 0)):
                np.testing.assert_array_equal(by_rule(np.reshape(part, (-1, 2)), size), mask > 0)
        else:
            packed = reference.frPyObjects(segmentation, *size)
            expected = reference.decode(packed) > 0
            np.testing.assert_array_equal(shapes.run_lengths(segmentation["counts"], list(size)), expected)
            np.testing.assert_array_equal(shapes.run_lengths(packed["counts"].decode(), packed["size"]), expected)
    assert kinds == {list, dict}


def test_compressed_runs_of_random_masks(reference) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        mask = rng.random(rng.integers(1, 80, 2)) < rng.random()
        packed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(shapes.run_lengths(packed["counts"].decode(), packed["size"]), mask)


def test_a_polygon_by_hand() -> None:
    """A square of whole pixels covers them; a pixel belongs to it when its middle does."""
    square = np.array([(2, 1), (6, 1), (6, 4), (2, 4)], np.float64)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(by_rule(square, (6, 8)), expected)
    np.testing.assert_array_equal(by_rule(square[::-1], (6, 8)), expected)


def test_runs_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    np.testing.assert_array_equal(shapes.run_lengths([2, 1, 1, 2], [2, 3]), mask)
    np.testing.assert_array_equal(shapes.run_lengths([1, 2, 2, 1], [2, 3], by_rows=True), mask)


def test_a_turned_box_covers_its_area() -> None:
    """A box of 20 by 10 pixels, turned by 90 degrees about its middle, is one of 10 by 20."""
    size = (40, 40)
    turned = filled(shapes.box(10, 15, 30, 25, size, 90.0), size)
    np.testing.assert_array_equal(turned, filled(shapes.box(15, 10, 25, 30, size), size))
    assert abs(filled(shapes.box(10, 15, 30, 25, size, 30.0), size).sum() - 200) < 10
    clockwise = filled(shapes.box(5, 19, 35, 21, size, 45.0), size)
    assert clockwise[30, 30]  # the right end goes down
    assert not clockwise[30, 10]


@pytest.mark.parametrize(
    ("draw", "kind"),
    [
        (lambda: shapes.polygon(np.zeros((2, 2)), (5, 5)), "polygon with fewer than 3 points"),
        (lambda: shapes.polygon(np.full((3, 2), 1e12), (5, 5)), "shape outside the image"),
        (lambda: shapes.polygon(np.array([(9, 9), (12, 9), (9, 12.0)]), (5, 5)), "shape outside the image"),
        (lambda: shapes.polygon(np.array([(1, 1), (1, 1), (1, 1.0)]), (5, 5)), "shape that covers no pixel"),
        (lambda: shapes.box(3, 1, 1, 4, (5, 5)), "empty or inverted box"),
        (lambda: shapes.run_lengths([5, 4], [5, 5]), "RLE of another size"),
        (lambda: shapes.run_lengths([30, -5], [5, 5]), "RLE that is damaged"),
        (lambda: shapes.run_lengths([True, 24], [5, 5]), "RLE that is damaged"),
        (lambda: shapes.run_lengths("\x00~", [5, 5]), "RLE that is damaged"),
        (lambda: shapes.run_lengths("PPPPPPPPPPPPPPPPPPPP", [5, 5]), "RLE that is damaged"),
        (lambda: shapes.run_lengths([10**30], [5, 5]), "RLE of another size"),
        (lambda: shapes.run_lengths([25], [5, 0]), "RLE without a size"),
        (lambda: shapes.run_lengths([25], None), "RLE without a size"),
        (lambda: shapes.pasted(np.ones((2, 2), bool), 5, 0, (5, 5)), "shape outside the image"),
        (lambda: shapes.points_array([[1, 2], [3]]), "coordinates that are not pairs of numbers"),
        (lambda: shapes.points_array([["x", 2]]), "coordinates that are not pairs of numbers"),
        (lambda: shapes.points_array([[1, float("nan")]]), "coordinates that are not finite"),
    ],
)
def test_what_cannot_be_drawn_is_dropped_by_kind(draw, kind: str) -> None:
    with pytest.raises(Dropped) as caught:
        draw()
    assert caught.value.kind == kind


def test_masks_are_cut_at_the_borders() -> None:
    mask = np.arange(9).reshape(3, 3) > 3
    for top, left in ((-1, -1), (3, 2), (1, 1)):
        expected = np.zeros((9, 9), bool)
        expected[2 + top : 5 + top, 2 + left : 5 + left] = mask
        np.testing.assert_array_equal(filled(shapes.pasted(mask, top, left, (5, 5)), (5, 5)), expected[2:7, 2:7])


def test_later_layers_lie_over_earlier_ones_and_lost_ones_are_noted() -> None:
    tally = Tally()
    layers = [
        shapes.Layer(shapes.Region(0, 0, np.ones((1, 2), bool)), 1, "first"),
        shapes.Layer(shapes.Region(0, 0, np.ones((2, 2), bool)), 2, "second"),
        shapes.Layer(shapes.Region(1, 1, np.ones((1, 2), bool)), 255, "third"),
    ]
    np.testing.assert_array_equal(shapes.paint((2, 3), 0, layers, tally), [[2, 2, 0], [2, 255, 255]])
    assert tally.noted == {"shape wholly under later shapes": (1, "first")}
