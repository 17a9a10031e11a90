"""Data set `coco`: masks against pycocotools, and each way a file can be wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from coco_sets import SIZE, SQUARE, make_coco
from PIL import Image
from tiny_sets import shared

from segjax.cli.main import main
from segjax.core.config import Data
from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import IMAGE, LABEL, DatasetInfo
from segjax.data.check import check
from segjax.data.dataset import open_dataset

LEFT, RIGHT = [0, 0, 6, 0, 6, 9, 0, 9], [3, 0, 9, 0, 9, 9, 3, 9]


def opened(root, tmp_path, **options):
    return open_dataset(Data(name="coco", root=str(root), cache=str(tmp_path / "cache"), options=options))


@pytest.mark.parametrize("split", ["val", pytest.param("train", marks=pytest.mark.slow)])
def test_every_mask_is_pycocotools(tmp_path, split: str) -> None:
    """Of all images, crowds and overlaps included, decoded from the prepared copy."""
    api = pytest.importorskip("pycocotools.coco")
    source, root = shared("coco_tiny"), tmp_path / "set"
    root.mkdir()
    for name in (split, f"instances_{split}.json"):
        (root / name).symlink_to(source / name)
    dataset = opened(root, tmp_path)
    assert dataset.info.layers == 4
    assert dataset.info.max_instances == {"train": 34, "val": 45}[split]
    reference = api.COCO(str(root / f"instances_{split}.json"))
    categories = sorted(reference.cats)
    assert dataset.info.classes == tuple(reference.cats[k]["name"] for k in categories)
    assert len(dataset.split(split)) == 80
    overlaps = 0
    for place, ident in enumerate(sorted(reference.imgs)):
        sample, entry = dataset.split(split)[place], reference.imgs[ident]
        true = [one for one in reference.dataset["annotations"] if one["image_id"] == ident]
        assert sample["name"] == entry["file_name"].removesuffix(".jpg")
        assert LABEL not in sample
        assert sample[IMAGE].shape == (entry["height"], entry["width"], 3)
        masks = [reference.annToMask(one).astype(bool) for one in true]
        pixels = np.bincount(sample["instance"].ravel(), minlength=len(true) + 1)[1:]
        assert pixels.tolist() == [mask.sum() for mask in masks]
        for slot, mask in enumerate(masks, 1):  # as many pixels, and these: the mask exactly
            assert (sample["instance"][mask] == slot).any(-1).all()
        overlaps += int((np.sum(masks, 0, np.uint8) > 1).any())
        np.testing.assert_array_equal(sample["instance_class"], [categories.index(a["category_id"]) for a in true])
        np.testing.assert_array_equal(sample["instance_crowd"], [bool(a["iscrowd"]) for a in true])
        np.testing.assert_array_equal(sample["instance_area"], np.float32([a["area"] for a in true]))
        x, y, width, height = np.array([a["bbox"] for a in true]).T
        np.testing.assert_allclose(sample["instance_box"], np.stack([x, y, x + width, y + height], 1), rtol=1e-6)
    assert overlaps > 40


def test_layout_of_the_release(tmp_path) -> None:
    """`annotations/instances_train2017.json` with `train2017`: the split is called train."""
    for split in ("val2017", "train2017"):
        make_coco(tmp_path / "set", split=split)
    (tmp_path / "set/annotations").mkdir()
    for path in (tmp_path / "set").glob("*.json"):
        path.rename(path.parent / "annotations" / path.name)
    dataset = opened(tmp_path / "set", tmp_path)
    assert list(dataset.splits) == ["train", "val"]
    assert dataset.info.classes == ("cat", "dog")  # by id
    assert dataset.info.things == (0, 1)
    assert DatasetInfo.from_json(dataset.info.to_json()) == dataset.info
    assert [dataset.split("train")[k]["name"] for k in range(2)] == ["10", "20"]


def test_images_without_annotations_are_kept(tmp_path) -> None:
    root = make_coco(tmp_path / "set", images=3)
    source = opened(root, tmp_path).split("train")
    assert len(source) == 3
    sample = source[1]
    assert sample["instance"].shape == (*SIZE, 1)
    assert not sample["instance"].any()
    assert sample["instance_box"].shape == (0, 4)
    report = check("coco", root)
    assert not report.problems
    assert any("noted: image without objects: 2" in line for line in report.lines())


def test_polygons_and_run_lengths(tmp_path) -> None:
    """Overlaps lie in layers; area and box are the annotation's, or else those of the pixels."""
    counts = [0, SIZE[0], SIZE[0] * (SIZE[1] - 1)]  # the first column
    annotations = [
        {"segmentation": [LEFT], "area": 53.5, "bbox": [0, 0, 6, 9]},
        {"segmentation": [RIGHT], "category_id": 7},
        {"segmentation": {"size": list(SIZE), "counts": counts}, "iscrowd": 1},
    ]
    sample = opened(make_coco(tmp_path / "set", annotations), tmp_path).split("train")[0]
    expected = np.zeros((3, *SIZE), bool)
    expected[0, :9, :6] = expected[1, :9, 3:9] = expected[2, :, 0] = True
    for slot in range(3):
        np.testing.assert_array_equal((sample["instance"] == slot + 1).any(-1), expected[slot])
    assert sample["instance"].shape[-1] == 2
    np.testing.assert_array_equal(sample["instance_class"], [0, 1, 0])
    np.testing.assert_array_equal(sample["instance_crowd"], [False, False, True])
    np.testing.assert_array_equal(sample["instance_area"], [53.5, 54, 20])
    np.testing.assert_array_equal(sample["instance_box"], [[0, 0, 6, 9], [3, 0, 9, 9], [0, 0, 1, 20]])


BAD = {
    "unknown category": {"category_id": 5},
    "polygon with fewer than 3 points": {"segmentation": [[1, 1, 5, 5]]},
    "polygon with an odd number of coordinates": {"segmentation": [[1, 1, 5, 5, 3, 4, 2]]},
    "RLE of another size": {"segmentation": {"size": [30, 20], "counts": [600]}},
    "RLE that is damaged": {"segmentation": {"size": [20, 30], "counts": "PP"}},
    "annotation without a segmentation": {"segmentation": []},
    "shape outside the image": {"segmentation": [[90, 90, 95, 90, 95, 99]]},
    "empty or inverted box": {"bbox": [5, 5, -3, 2]},
    "box that is not four numbers": {"bbox": [5, 5, 3]},
    "area that is no number from 0 on": {"area": "large"},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_annotation_is_one_line(tmp_path, kind: str, capsys) -> None:
    """Named with file and id by prepare, listed by check, left out and counted where that is asked for."""
    root = make_coco(tmp_path / "set", [{}, BAD[kind]])
    with pytest.raises(DataError) as caught:
        opened(root, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{root}/instances_train.json: annotation 2 (image 10, 10.png): {kind}: ")
    assert "skip_bad=True" in message
    assert f"`segjax data check coco --root {root}`" in message
    assert "\n" not in message
    assert main(["data", "check", "coco", "--root", str(root)]) == 1
    text = capsys.readouterr().out
    assert f"\n{kind}: 1\n  {root}/instances_train.json: annotation 2" in text
    dataset = opened(root, tmp_path, skip_bad=True)
    assert f"warning: dropped: {kind}: {root}/instances_train.json: annotation 2" in capsys.readouterr().err
    sample = dataset.split("train")[0]
    assert len(sample["instance_class"]) == 1
    assert (sample["instance"] == 1).sum() == 64


def test_a_bad_part_leaves_the_other_parts(tmp_path) -> None:
    root = make_coco(tmp_path / "set", [{"segmentation": [SQUARE, [1, 1, 5, 5]]}])
    assert len(check("coco", root).problems) == 1
    assert (opened(root, tmp_path, skip_bad=True).split("train")[0]["instance"] == 1).sum() == 64


def test_a_shape_without_a_pixel_stays_as_an_instance(tmp_path) -> None:
    """pycocotools counts it among the truths, too."""
    root = make_coco(tmp_path / "set", [{"segmentation": [[1.1, 1.1, 1.2, 1.1, 1.2, 1.2]], "area": 0.005}])
    report = check("coco", root)
    assert not report.problems
    assert [note.kind for note in report.notes] == ["image without objects", "shape that covers no pixel"]
    sample = opened(root, tmp_path).split("train")[0]
    assert not sample["instance"].any()
    np.testing.assert_array_equal(sample["instance_area"], np.float32([0.005]))


@pytest.mark.parametrize(
    ("kind", "change", "left"),
    [
        ("image that is missing", lambda content: content["images"][0].update(file_name="none.png"), 1),
        ("image that is missing", lambda content: content["images"][0].update(file_name="../x.png"), 1),
        ("image that is listed twice", lambda content: content["images"][0].update(file_name="10.png"), 1),
        ("image id that repeats (none of them is read)", lambda content: content["images"][0].update(id=10), 0),
        ("image without an id or a file name", lambda content: content["images"][0].pop("id"), 1),
        ("width and height swapped", lambda content: content["images"][0].update(height=30, width=20), 1),
        ("image of another size than its annotations", lambda content: content["images"][0].update(height=21), 1),
        ("annotation of an unknown image", lambda content: content["annotations"][1].update(image_id=5), 2),
        ("annotation of another form", lambda content: content["annotations"].append("x"), 2),
        (
            "annotation id that repeats (all of them are read)",
            lambda content: content["annotations"][1].update(id=1),
            2,
        ),
    ],
)
def test_bad_lists(tmp_path, kind: str, change, left: int, capsys) -> None:
    root = make_coco(tmp_path / "set", [{}, {}])
    path = root / "instances_train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_train\.json") as caught:
        opened(root, tmp_path)
    assert f": {kind}: " in str(caught.value)
    assert "\n" not in str(caught.value)
    if not left:
        return
    assert [problem.kind for problem in check("coco", root).problems] == [kind]
    assert len(opened(root, tmp_path, skip_bad=True).split("train")) == left
    assert f"warning: dropped: {kind}: " in capsys.readouterr().err


def test_the_largest_stay(tmp_path, capsys) -> None:
    squares = [[0, 0, k, 0, k, k, 0, k] for k in (4, 2, 8, 6)]
    root = make_coco(
        tmp_path / "set", [{"segmentation": [square], "area": 100 - n} for n, square in enumerate(squares)]
    )
    dataset = opened(root, tmp_path, max_instances=2)
    sample = dataset.split("train")[0]
    assert dataset.info.max_instances == 2
    assert [(sample["instance"] == slot).sum() for slot in (1, 2)] == [64, 36]
    np.testing.assert_array_equal(sample["instance_area"], [98, 97])
    line = "1 images have more than data.options.max_instances=2 instances (up to 4); the largest stay, 2 are left out"
    assert line in capsys.readouterr().err
    assert any(line in text for text in check("coco", root, {"max_instances": 2}).lines())


def test_report(tmp_path, capsys) -> None:
    annotations = [{"area": 1023.9}, {"area": 1024, "category_id": 7}, {"area": 9216}, {"iscrowd": 1, "area": 5}]
    assert main(["data", "check", "coco", "--root", str(make_coco(tmp_path / "set", annotations))]) == 0
    text = capsys.readouterr().out
    assert "3 instances (1 small, 1 medium, 1 large; limits 32^2 and 96^2 pixels), 1 crowds, up to 4 an image" in text
    assert "4 id layers; 1 images have none" in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("  cat", "  dog"))]
    assert rows == [["cat", "2", "66.667%", "1", "1"], ["dog", "1", "33.333%", "0", "1"]]


def test_show(tmp_path) -> None:
    """An image and what is drawn on it side by side, magnified so that names can be read."""
    root = make_coco(tmp_path / "set")
    path, cache = tmp_path / "sheet.png", str(tmp_path / "cache")
    common = ["--root", str(root), "--cache", cache, "--output", str(path), "--count", "1"]
    assert main(["data", "show", "coco", *common]) == 0
    sheet = np.asarray(Image.open(path))
    times = sheet.shape[0] // SIZE[0]
    assert times * SIZE[1] >= 320
    image = np.asarray(Image.open(root / "train/10.png")).repeat(times, 0).repeat(times, 1)
    np.testing.assert_array_equal(sheet[: image.shape[0], : image.shape[1]], image)
    drawn = sheet[: image.shape[0], image.shape[1] + 4 :]
    changed = (drawn != image).any(-1)
    assert changed[3 * times : 9 * times, 3 * times : 9 * times].mean() > 0.95
    assert not changed[12 * times :].any()


def test_a_changed_list_is_prepared_anew_and_an_unchanged_one_is_not_read(tmp_path, monkeypatch, capsys) -> None:
    from segjax.data.builders import coco

    root = make_coco(tmp_path / "set")
    opened(root, tmp_path)
    monkeypatch.setattr(coco, "read_json", lambda path: pytest.fail("read again"))
    opened(root, tmp_path)
    monkeypatch.undo()
    shutil.rmtree(root)
    make_coco(root, [{}, {"category_id": 7}])
    assert len(opened(root, tmp_path).split("train")[0]["instance_class"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "boxes"}, "annotations: 'boxes' is not one of"),
        ({"max_instances": 0}, "max_instances: 0 is not a number from 1"),
        ({"skip_bad": "yes"}, "skip_bad: 'yes' is neither"),
        ({"image": "x"}, "Did you mean 'images'"),
        ({"images": 3}, "images: 3 is no folder's name"),
        ({"images": "../x"}, "images: '../x' is no folder's name under the root"),
        ({"annotations": ["instance", "panoptic"]}, "is not one of"),
    ],
)
def test_options(tmp_path, options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        opened(make_coco(tmp_path / "set"), tmp_path, **options)


def test_other_sets(tmp_path) -> None:
    with pytest.raises(DataError, match=r"expected instances_NAME\.json"):
        opened(tmp_path, tmp_path)
    root = make_coco(tmp_path / "set")
    make_coco(root, split="val")
    content = json.loads((root / "instances_val.json").read_text())
    content["categories"][0]["name"] = "wolf"
    (root / "instances_val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"instances_val.json: other categories than instances_train.json \(category 7"):
        opened(root, tmp_path)
    (root / "instances_val.json").write_text("[]")
    with pytest.raises(DataError, match=r"instances_val\.json: no COCO instances file; it looks like a list of 0"):
        opened(root, tmp_path)


def test_grey_images_and_an_image_folder_of_another_name(tmp_path) -> None:
    root = make_coco(tmp_path / "set")
    (root / "train").rename(root / "pictures")
    Image.open(root / "pictures/10.png").convert("L").save(root / "pictures/10.png")
    with pytest.raises(DataError, match=r"data\.options\.images names another"):
        opened(root, tmp_path)
    sample = opened(root, tmp_path, images="pictures").split("train")[0]
    assert sample[IMAGE].shape == (*SIZE, 3)


def test_panoptic(tmp_path) -> None:
    """Pixels and boxes of COCO's own two examples are those that their JSON states."""
    source = shared("fixtures/coco_panoptic")
    root = tmp_path / "set"
    shutil.copytree(source / "panoptic_examples", root / "panoptic_examples")
    shutil.copytree(source / "input_images", root / "examples")
    shutil.copy(source / "panoptic_examples.json", root)
    content = json.loads((root / "panoptic_examples.json").read_text())
    dataset = opened(root, tmp_path)
    categories = sorted(content["categories"], key=lambda one: one["id"])
    assert dataset.info.classes == tuple(one["name"] for one in categories)
    assert dataset.info.things == tuple(k for k, one in enumerate(categories) if one["isthing"])
    place = {one["id"]: k for k, one in enumerate(categories)}
    for index, annotation in enumerate(sorted(content["annotations"], key=lambda one: one["image_id"])):
        sample = dataset.split("examples")[index]
        segments = annotation["segments_info"]
        pixels = np.zeros(256, int)
        for segment in segments:
            pixels[place[segment["category_id"]]] += segment["area"]
        np.testing.assert_array_equal(np.bincount(sample[LABEL].ravel(), minlength=256)[:255], pixels[:255])
        things = [one for one in segments if place[one["category_id"]] in dataset.info.things]
        found = sample["instance"]
        assert found.shape[-1] == 1
        assert len(things) == len(sample["instance_class"])
        for slot, thing in enumerate(things):
            mask = (found == slot + 1).any(-1)
            assert mask.sum() == thing["area"] == sample["instance_area"][slot]
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()]
            assert box == thing["bbox"]
            assert sample["instance_class"][slot] == place[thing["category_id"]]
            assert sample["instance_crowd"][slot] == bool(thing["iscrowd"])
            assert (sample[LABEL][mask] == place[thing["category_id"]]).all()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("segment that is not listed", lambda segments: segments.pop()),
        ("segment id that repeats", lambda segments: segments[1].update(id=258)),
        ("segment without a pixel", lambda segments: segments[0].update(id=77)),
        ("unknown category", lambda segments: segments[0].update(category_id=99)),
    ],
)
def test_bad_segments(tmp_path, kind: str, change) -> None:
    root = make_coco(tmp_path / "set", images=1)
    segments = [{"id": 258, "category_id": 3, "iscrowd": 0}, {"id": 65536, "category_id": 7, "iscrowd": 0}]
    change(segments)
    content = json.loads((root / "instances_train.json").read_text())
    content["annotations"] = [{"image_id": 10, "file_name": "10.png", "segments_info": segments}]
    content["categories"] = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}]
    (root / "panoptic_train").mkdir()
    ids = np.zeros((*SIZE, 3), np.uint8)
    ids[:10], ids[10:15] = (2, 1, 0), (0, 0, 1)
    Image.fromarray(ids).save(root / "panoptic_train/10.png")
    (root / "panoptic_train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"10.png.*{kind}: "):
        opened(root, tmp_path, annotations="panoptic")
    assert kind in {problem.kind for problem in check("coco", root, {"annotations": "panoptic"}).problems}
    sample = opened(root, tmp_path, annotations="panoptic", skip_bad=True).split("train")[0]
    assert (sample[LABEL][15:] == 255).all()
    assert set(np.unique(sample[LABEL])) < {0, 1, 255}
