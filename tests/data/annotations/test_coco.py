"""COCO instances: label maps against pycocotools, and every way a file can be wrong."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from sources import SIZE, TRIANGLE, classes, coco, label, photo, run
from tiny_sets import shared

from segjax.data.check import check

CORNER = [0, 0, 4, 0, 4, 3, 0, 3]


def test_label_maps_of_coco_images(tmp_path, capsys) -> None:
    api = pytest.importorskip("pycocotools.coco")
    source = shared("coco_tiny")
    assert run("coco", source / "instances_val.json", tmp_path / "set", "--split", "val") == 0
    reference = api.COCO(str(source / "instances_val.json"))
    names = ["background", *(reference.cats[k]["name"] for k in sorted(reference.cats))]
    assert classes(tmp_path / "set") == names
    for ident, image in reference.imgs.items():
        annotations = reference.loadAnns(reference.getAnnIds(ident))
        masks = [reference.annToMask(annotation) > 0 for annotation in annotations]
        expected = np.zeros((image["height"], image["width"]), int)
        for annotation, mask in zip(annotations, masks):
            if annotation["iscrowd"]:
                expected[mask] = 255
        for k in sorted(range(len(masks)), key=lambda k: -masks[k].sum()):
            if not annotations[k]["iscrowd"]:
                expected[masks[k]] = names.index(reference.cats[annotations[k]["category_id"]]["name"])
        np.testing.assert_array_equal(label(tmp_path / "set", image["file_name"][:-4], "val"), expected)
    assert "noted: crowd made void: 11, such as annotation" in capsys.readouterr().out
    assert not check("folder", tmp_path / "set").problems


def test_crowds_lie_under_objects_and_small_objects_over_large_ones(tmp_path) -> None:
    box = [0, 0, 8, 0, 8, 8, 0, 8]
    source = coco(
        tmp_path / "x.json",
        [
            {"segmentation": [CORNER], "category_id": 2},
            {"segmentation": [box], "category_id": 1},
            {"segmentation": {"size": list(SIZE), "counts": [0, SIZE[0] * SIZE[1]]}, "iscrowd": 1},
        ],
    )
    assert run("coco", source, tmp_path / "set") == 0
    expected = np.full(SIZE, 255)
    expected[:8, :8] = 1
    expected[:3, :4] = 2
    np.testing.assert_array_equal(label(tmp_path / "set", "a"), expected)


def test_the_labelme_fixture_as_coco_has_its_own_background(tmp_path) -> None:
    source = shared("annotation_formats")
    options = ("--images", source / "labelme")
    assert run("coco", source / "coco/labelme_instance.json", tmp_path / "set", *options) == 0
    assert classes(tmp_path / "set")[:2] == ["background", "aeroplane"]
    assert len(classes(tmp_path / "set")) == 21
    assert set(np.unique(label(tmp_path / "set", "2011_000025"))) == {0, 6, 7}


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ({"segmentation": [[1, 1, 5, 5]]}, "polygon with fewer than 3 points"),
        ({"segmentation": [[1, 1, 5, 5, 3, 4, 2]]}, "polygon with an odd number of coordinates"),
        ({"segmentation": [[90, 90, 95, 90, 95, 99]]}, "shape outside the image"),
        ({"segmentation": [[-9e99, 1, 5, 5, 3, 4]]}, "shape outside the image"),
        ({"segmentation": [["a", 1, 5, 5, 3, 4]]}, "coordinates that are not pairs of numbers"),
        ({"segmentation": [[float("nan"), 1, 5, 5, 3, 4]]}, "coordinates that are not finite"),
        ({"segmentation": {"size": [16, 12], "counts": [0, 192]}}, "RLE of another size"),
        ({"segmentation": {"size": [12, 16], "counts": [0, 191]}}, "RLE of another size"),
        ({"segmentation": {"size": [12, 16], "counts": "~~~"}}, "RLE that is damaged"),
        ({"segmentation": []}, "annotation without a segmentation"),
        ({"bbox": [1, 1, 3, 3]}, "annotation without a segmentation"),
        ({"segmentation": "x"}, "segmentation that is neither polygons nor RLE"),
        ({"segmentation": [TRIANGLE], "category_id": 77}, "annotation of an unknown category"),
        ({"segmentation": [TRIANGLE], "category_id": [1]}, "annotation of an unknown category"),
        ({"segmentation": [TRIANGLE], "image_id": 5}, "annotation of an unknown image"),
        ({"segmentation": [TRIANGLE], "image_id": {}}, "annotation of an unknown image"),
    ],
)
def test_annotations_that_are_dropped(tmp_path, capsys, annotation: dict, told: str) -> None:
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER]}, annotation])
    assert run("coco", source, tmp_path / "set") == 1
    assert f"dropped: {told}: annotation 1" in capsys.readouterr().out
    expected = np.zeros(SIZE)
    expected[:3, :4] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "a"), expected)


def test_parts_that_can_be_drawn_stay(tmp_path, capsys) -> None:
    source = coco(tmp_path / "x.json", [{"segmentation": [[1, 1], CORNER]}])
    assert run("coco", source, tmp_path / "set") == 1
    assert label(tmp_path / "set", "a")[:3, :4].all()


def test_images_that_are_dropped(tmp_path, capsys) -> None:
    names = ("a.png", "gone.png", "other.png", "a/b.png", "../../etc/c.png", "/etc/d.png", "C:\\data\\e.png", "f.gif")
    source = coco(tmp_path / "in" / "x.json", [{"segmentation": [CORNER]}], names=names, write=False)
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "other.png", (5, 5))
    photo(tmp_path / "in" / "z" / "b.png")
    photo(tmp_path / "etc" / "c.png")
    photo(tmp_path / "in" / "f.gif")
    assert run("coco", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: image missing on disk: 2, such as gone.png" in told
    assert "dropped: image outside the folders that may be read (--images): 3, such as ../../etc/c.png" in told
    assert "dropped: image of a format that segjax does not read: " in told
    assert "dropped: image of another size than its annotations: other.png: 5x5, annotated as 12x16" in told
    assert [path.name for path in (tmp_path / "set/train/images").iterdir()] == ["a.png"]
    assert [path.name for path in (tmp_path / "set/train/labels").iterdir()] == ["a.png"]


def test_names_of_other_machines_are_found_by_the_file_name(tmp_path, capsys) -> None:
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER]}], names=("C:\\data\\köln 1.png",), write=False)
    photo(tmp_path / "pictures" / "köln 1.png")
    assert run("coco", source, tmp_path / "set") == 0
    assert "noted: image found by its file name alone: C:\\data\\köln 1.png" in capsys.readouterr().out
    assert label(tmp_path / "set", "köln 1")[0, 0] == 1


def test_another_folders_image_of_the_same_name_is_not_taken(tmp_path, capsys) -> None:
    """b/1.png is gone; 1.png and a/1.png are other images."""
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER]}], names=("b/1.png",), write=False)
    photo(tmp_path / "1.png")
    photo(tmp_path / "a/1.png")
    assert run("coco", source, tmp_path / "set") == 2
    assert "image missing on disk: 1, such as b/1.png" in capsys.readouterr().err
    assert run("coco", source, tmp_path / "set", "--images", tmp_path / "a") == 0  # the user's word for it


def test_one_name_in_two_folders_stays_two_images(tmp_path, capsys) -> None:
    names = ("x/1.png", "y/1.png", "y/2.png", "x_1.png")
    annotations = [{"segmentation": [CORNER], "image_id": k, "category_id": 1 + k % 2} for k in range(4)]
    source = coco(tmp_path / "x.json", annotations, names=names)
    assert run("coco", source, tmp_path / "set") == 0
    assert "noted: file name that several images have, made unique: 2, such as x/1.png" in capsys.readouterr().out
    stems = {path.stem for path in (tmp_path / "set/train/images").iterdir()}
    assert stems == {"x_1", "x_1_2", "y_1", "2"}
    assert label(tmp_path / "set", "x_1_2")[0, 0] == 1
    assert label(tmp_path / "set", "y_1")[0, 0] == 2
    assert not check("folder", tmp_path / "set").problems


def test_a_name_that_fits_two_files_is_dropped(tmp_path, capsys) -> None:
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER]}], names=("1.png",), write=False)
    photo(tmp_path / "p" / "1.png")
    photo(tmp_path / "q" / "1.png")
    assert run("coco", source, tmp_path / "set") == 2
    assert "image name that fits several files" in capsys.readouterr().err
    assert run("coco", source, tmp_path / "set", "--images", tmp_path / "q") == 0


def test_duplicates_are_told(tmp_path, capsys) -> None:
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER]}] * 2, names=("a.png", "b.png", "c.png"))
    content = json.loads(source.read_text())
    content["annotations"][1]["id"] = 0
    content["annotations"][1]["segmentation"] = [[8, 8, 12, 8, 12, 11, 8, 11]]
    content["images"] += [dict(content["images"][0]), {"id": 9, "file_name": "a.png", "height": 12, "width": 16}]
    content["images"] += [{"id": 1, "file_name": "other.png", "height": 12, "width": 16}]
    content["annotations"].append(
        {"id": 5, "image_id": 9, "category_id": 2, "segmentation": [[5, 5, 7, 5, 7, 7, 5, 7]]}
    )
    source.write_text(json.dumps(content))
    assert run("coco", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "noted: annotation id that comes twice (both are drawn): annotation 0" in told
    assert "noted: image listed twice: 'a.png'" in told
    assert "noted: image with two ids, whose annotations are joined" in told
    assert "dropped: image id of two images (neither is read): 1: 'other.png'" in told
    assert "noted: image without annotations, which is all background: c.png" in told
    drawn = label(tmp_path / "set", "a")
    assert (drawn[1, 1], drawn[9, 9], drawn[6, 6]) == (1, 1, 2)
    assert {path.stem for path in (tmp_path / "set/train/images").iterdir()} == {"a", "c"}


def test_categories_may_share_a_name_but_not_an_id(tmp_path, capsys) -> None:
    annotations = [{"segmentation": [CORNER], "category_id": 2}]
    source = coco(tmp_path / "x.json", annotations, categories=("cat", " cat"))
    assert run("coco", source, tmp_path / "set") == 0
    assert classes(tmp_path / "set") == ["background", "cat"]
    source.write_text(source.read_text().replace('"id": 2, "name": " cat"', '"id": 1, "name": "dog"'))
    assert run("coco", source, tmp_path / "other") == 2
    assert "category id 1 is both 'cat' and 'dog'" in capsys.readouterr().err


def test_more_classes_than_labels_hold(tmp_path, capsys) -> None:
    names = [f"kind {k}" for k in range(300)]
    source = coco(tmp_path / "x.json", [{"segmentation": [CORNER], "category_id": 300}], categories=names)
    assert run("coco", source, tmp_path / "set") == 2
    assert "301 classes; label maps hold 255" in capsys.readouterr().err
    (tmp_path / "some.txt").write_text("kind 299\nkind 4\n")
    assert run("coco", source, tmp_path / "set", "--classes", tmp_path / "some.txt") == 0
    assert classes(tmp_path / "set") == ["background", "kind 299", "kind 4"]
    assert label(tmp_path / "set", "a")[0, 0] == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"{", "broken JSON, line 1, column 2"),
        (b"[" * 100_000, "broken JSON"),
        (b'{"images": ' + b"1" * 5000 + b"}", "broken JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 text"),
        (gzip.compress(b"{}", mtime=0), "gzip-compressed, not a text file; unpack it"),
        (b"PK\x03\x04abc", "a zip archive, not a text file; unpack it"),
        (b"<annotations/>", "not JSON; it looks like XML"),
        (b'{"shapes": []}', "it looks like a labelme file (--from labelme)"),
        (b'[{"image_id": 1, "category_id": 1}]', "it looks like a list of COCO results"),
        (b'{"images": [], "annotations": [{"segments_info": []}], "categories": []}', "it looks like COCO panoptic"),
        (b'{"x": {"regions": []}}', "VGG Image Annotator"),
        (b'{"images": [], "categories": []}', "no annotations and categories"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1}]}', "categories[0] has no id and name"),
        (b'{"images": [], "annotations": [], "categories": [{"id": 1, "name": "x"}]}', "no image can be imported"),
    ],
)
def test_other_files_get_one_line(tmp_path, capsys, content: bytes, told: str) -> None:
    source = tmp_path / "x.json"
    source.write_bytes(content)
    assert run("coco", source, tmp_path / "set") == 2
    error = capsys.readouterr().err
    assert told in error
    assert str(source) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_nothing_but_background_is_refused(tmp_path, capsys) -> None:
    assert run("coco", coco(tmp_path / "x.json", [{"bbox": [1, 2, 3, 4]}]), tmp_path / "set") == 2
    error = capsys.readouterr().err
    assert "its images show background and void alone (annotation without a segmentation: 1, such as" in error
    assert not (tmp_path / "set").exists()


def test_a_folder_with_one_file_and_a_byte_order_mark(tmp_path) -> None:
    source = coco(tmp_path / "in" / "_annotations.coco.json", [{"segmentation": [CORNER]}])
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    assert run("coco", source.parent, tmp_path / "set") == 0


def test_cocos_own_folders(tmp_path) -> None:
    """annotations/instances_val2017.json, and the images in val2017 beside that folder."""
    source = coco(tmp_path / "coco/annotations/instances_val2017.json", [{"segmentation": [CORNER]}], write=False)
    photo(tmp_path / "coco/val2017/a.png")
    assert run("coco", source, tmp_path / "set") == 0
