"""VOC's and Cityscapes' label pictures: the official tables, palettes that differ, files that are absent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import SIZE, classes, label, photo, run

from segjax.data.annotations import cityscapes, voc
from segjax.data.check import check

MAPS = Path(__file__).parents[4] / "shared" / "label_maps"
IDS = np.arange(SIZE[0] * SIZE[1], dtype=np.uint8).reshape(SIZE)


def official(name: str) -> list[dict]:
    if not MAPS.is_dir():
        pytest.skip(f"{MAPS} is absent")
    return json.loads((MAPS / f"{name}.json").read_text())["classes"]


def test_vocs_classes_and_colours_are_the_official_ones() -> None:
    listed = official("voc2012")[:21]
    assert [entry["name"] for entry in listed] == list(voc.NAMES)
    assert [tuple(entry["colour"]) for entry in listed] == list(voc.palette(21))
    assert voc.palette(256)[255] == voc.VOID


def test_cityscapes_table_is_the_official_one() -> None:
    listed = [entry for entry in official("cityscapes") if entry["id"] >= 0]
    table = {entry["id"]: 255 if entry["train"] is None else entry["train"] for entry in listed}
    assert table == cityscapes.LABEL_IDS
    named = {entry["train"]: entry["name"] for entry in listed if entry["train"] is not None}
    assert [named[k] for k in range(19)] == list(cityscapes.NAMES)


def mask(path: Path, ids: np.ndarray, palette: list | None = None) -> None:
    """A mask as VOC's: palette PNG with the palette of 256 colours, or another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8)).convert("L")
    image.putpalette(np.array(palette or voc.palette(256), np.uint8).ravel().tolist())
    image.save(path)


def devkit(folder: Path, lists: dict[str, str], ids: np.ndarray, palette: list | None = None) -> Path:
    for name in {name for text in lists.values() for name in text.split()}:
        photo(folder / f"JPEGImages/{name}.jpg")
        mask(folder / f"SegmentationClass/{name}.png", ids, palette)
    for name, text in lists.items():
        path = folder / f"ImageSets/Segmentation/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_voc_splits_and_void(tmp_path, capsys) -> None:
    ids = np.where(IDS % 22 == 21, 255, IDS % 22)
    lists = {"train": "a\nb\n", "val": "c\n", "trainval": "a\nb\nc\n"}
    devkit(tmp_path / "VOCdevkit/VOC2012", lists, ids)
    assert run("voc", tmp_path / "VOCdevkit", tmp_path / "set", "--link") == 0
    assert classes(tmp_path / "set") == list(voc.NAMES)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["classes.txt", "train", "val"]
    np.testing.assert_array_equal(label(tmp_path / "set", "c", "val"), ids)
    assert (tmp_path / "set/train/images/a.jpg").is_symlink()
    assert not check("folder", tmp_path / "set").problems
    assert run("voc", tmp_path / "VOCdevkit", tmp_path / "all", "--split", "trainval") == 0
    assert len(list((tmp_path / "all/trainval/images").iterdir())) == 3
    assert run("voc", tmp_path / "VOCdevkit", tmp_path / "other", "--split", "test") == 2
    assert "lists of train, trainval, val; choose one with --split" in capsys.readouterr().err


def test_voc_palettes_that_differ_are_read_by_colour(tmp_path, capsys) -> None:
    """An editor has put the colours of classes 0 and 5 at the indices 1 and 0."""
    palette = [voc.palette(6)[5], (0, 0, 0), *[(9, 9, 9)] * 254]
    devkit(tmp_path / "in", {"train": "a"}, IDS % 2, palette)
    assert run("voc", tmp_path / "in", tmp_path / "set") == 0
    assert "noted: mask with another palette, read by its colours" in capsys.readouterr().out
    np.testing.assert_array_equal(label(tmp_path / "set", "a"), np.where(IDS % 2, 0, 5))


def test_voc_pictures_in_colours_with_cvats_list(tmp_path) -> None:
    source = devkit(tmp_path / "in", {"default": "a"}, IDS % 2)
    (source / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\na b:250,50,83::\nroad:64,96,184::\n"
    )
    colours = np.array([(0, 0, 0), (250, 50, 83), (64, 96, 184)], np.uint8)
    Image.fromarray(colours[IDS % 3]).save(source / "SegmentationClass/a.png")
    assert run("voc", source, tmp_path / "set") == 0
    assert classes(tmp_path / "set") == ["background", "a b", "road"]
    np.testing.assert_array_equal(label(tmp_path / "set", "a"), IDS % 3)


def test_labelmes_voc_export_without_lists(tmp_path, capsys) -> None:
    source = devkit(tmp_path / "in", {"train": "a"}, IDS % 3)
    (source / "ImageSets/Segmentation/train.txt").unlink()
    (source / "SegmentationClass").rename(source / "SegmentationClassPNG")
    (source / "class_names.txt").write_text("_background_\nx\ny")
    assert run("voc", source, tmp_path / "set", "--split", "val") == 0
    assert "noted: masks without lists of splits" in capsys.readouterr().out
    np.testing.assert_array_equal(label(tmp_path / "set", "a", "val"), IDS % 3)


def test_voc_masks_that_are_dropped(tmp_path, capsys) -> None:
    source = devkit(tmp_path / "in", {"train": "a b c d e f g"}, IDS % 3)
    names = "a\nb\nc\nd\ne\nf\ng\na\ngone\n../../x\n"
    (source / "ImageSets/Segmentation/train.txt").write_text(names)
    mask(source / "SegmentationClass/b.png", IDS % 25)
    Image.fromarray(np.full(SIZE, 30, np.uint8)).save(source / "SegmentationClass/c.png")
    Image.fromarray(np.full((*SIZE, 3), 30, np.uint8)).save(source / "SegmentationClass/d.png")
    (source / "SegmentationClass/e.png").write_bytes((source / "SegmentationClass/a.png").read_bytes()[:-30])
    (source / "JPEGImages/f.jpg").unlink()
    mask(source / "SegmentationClass/g.png", np.zeros((5, 5)))
    assert run("voc", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    for line in (
        "mask with colours outside the class list: 2",
        "mask with values outside the class list: ",
        "mask that cannot be read: ",
        "image missing on disk: f",
        "image of another size than its annotations: g.jpg: 12x16, annotated as 5x5",
        "name that is listed twice (the first is taken): a in train.txt",
        "mask missing on disk: ",
        "name that leads outside the source: ../../x",
    ):
        assert f"dropped: {line}" in told
    assert [path.stem for path in (tmp_path / "set/train/images").iterdir()] == ["a"]


def test_voc_boxes_are_no_masks(tmp_path, capsys) -> None:
    (tmp_path / "in/Annotations").mkdir(parents=True)
    (tmp_path / "in/Annotations/a.xml").write_text("<annotation/>")
    assert run("voc", tmp_path / "in", tmp_path / "set") == 2
    assert "boxes (Annotations/*.xml) but no SegmentationClass; boxes are no label maps." in capsys.readouterr().err
    assert run("voc", tmp_path / "in/Annotations/a.xml", tmp_path / "set") == 2
    assert "--from voc reads a folder" in capsys.readouterr().err


def city(folder: Path, split: str, kind: str, ids: np.ndarray, name: str = "aachen_000000_000019") -> Path:
    photo(folder / f"leftImg8bit/{split}/aachen/{name}_leftImg8bit.png")
    path = folder / f"gtFine/{split}/aachen/{name}_gtFine_{kind}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)
    return path


def test_cityscapes_ids(tmp_path, capsys) -> None:
    for split in ("train", "val", "test"):
        city(tmp_path / "in", split, "labelIds", IDS % 34)
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set") == 0
    assert "noted: split left out" in capsys.readouterr().out
    assert classes(tmp_path / "set") == list(cityscapes.NAMES)
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["classes.txt", "train", "val"]
    table = np.full(34, 255)
    table[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = np.arange(19)
    np.testing.assert_array_equal(label(tmp_path / "set", "aachen_000000_000019", "val"), table[IDS % 34])
    assert not check("folder", tmp_path / "set").problems


def test_cityscapes_train_ids_and_their_confusion(tmp_path, capsys) -> None:
    ids = np.where(IDS % 20 == 19, 255, IDS % 20).astype(np.uint8)
    city(tmp_path / "in", "train", "labelTrainIds", ids)
    city(tmp_path / "in", "train", "labelIds", ids, "aachen_000001_000019")
    city(tmp_path / "in", "train", "labelIds", np.zeros((*SIZE, 3), np.uint8), "aachen_000002_000019")
    (
        city(tmp_path / "in", "train", "labelIds", ids, "a_b_c").parents[3]
        / "leftImg8bit/train/aachen/a_b_c_leftImg8bit.png"
    ).unlink()
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: mask with values outside the class list: " in told
    assert "(value 255)" in told
    assert "dropped: mask that holds colours, not ids: " in told
    assert "dropped: image missing on disk: train/aachen/a_b_c_leftImg8bit.png" in told
    np.testing.assert_array_equal(label(tmp_path / "set", "aachen_000000_000019"), ids)


def test_cityscapes_refusals(tmp_path, capsys) -> None:
    city(tmp_path / "in", "train", "color", np.zeros((*SIZE, 3), np.uint8))
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set") == 2
    assert "colour pictures only; make labelIds" in capsys.readouterr().err
    city(tmp_path / "in", "val", "labelIds", np.zeros(SIZE, np.uint8))
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set", "--split", "val") == 2
    assert "background and void alone" in capsys.readouterr().err
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set", "--split", "test") == 2
    assert "splits train, val; choose one" in capsys.readouterr().err
    assert run("cityscapes-ids", tmp_path / "in", tmp_path / "set", "--classes", __file__) == 2
    assert run("cityscapes-ids", tmp_path, tmp_path / "set") == 2
    capsys.readouterr()
    (tmp_path / "nothing").mkdir()
    assert run("cityscapes-ids", tmp_path / "nothing", tmp_path / "set") == 2
    assert "expected gtFine and leftImg8bit" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
