"""What is written: whole or not at all, never over something, with one class list, and fit to train on."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps
from sources import SIZE, TRIANGLE, classes, coco, label, photo, run

from segjax.core.errors import StorageError
from segjax.core.schema import LABEL
from segjax.data.annotations import importing
from segjax.data.annotations.pictures import turn
from segjax.data.dataset import open_dataset

DRAWN = [{"segmentation": [TRIANGLE]}]


def names_below(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_what_is_written_reads_as_a_data_set(tmp_path) -> None:
    from segjax.core.config import Data

    source = coco(tmp_path / "in/x.json", DRAWN)
    assert run("coco", source, tmp_path / "deep/set") == 0
    assert run("coco", source, tmp_path / "deep/set", "--split", "val") == 0
    files = {f"{split}/{kind}/a.png" for split in ("train", "val") for kind in ("images", "labels")}
    assert {path for path in names_below(tmp_path / "deep/set") if "." in path} == {"classes.txt", *files}
    data = open_dataset(Data(name="folder", root=str(tmp_path / "deep/set"), cache=str(tmp_path / "cache")))
    assert data.info.classes == ("background", "cat", "dog")
    np.testing.assert_array_equal(data.split("val")[0][LABEL], label(tmp_path / "deep/set", "a"))
    assert (tmp_path / "deep/set/train/images/a.png").read_bytes() == (tmp_path / "in/a.png").read_bytes()


@pytest.mark.parametrize("way", ["copy", "link", "hard-link"])
def test_ways_of_transfer(tmp_path, way: str) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN)
    assert run("coco", source, tmp_path / "set", f"--{way}") == 0
    image = tmp_path / "set/train/images/a.png"
    assert image.is_symlink() == (way == "link")
    assert image.samefile(tmp_path / "in/a.png") == (way != "copy")
    Image.open(image).load()


def test_nothing_is_overwritten(tmp_path, capsys) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN)
    for taken in ("one/train", "two/images/train", "three/labels/train"):
        (tmp_path / taken).mkdir(parents=True)
        (tmp_path / taken / "mine").write_text("x")
        root = tmp_path / taken.split("/")[0]
        before = names_below(root)
        assert run("coco", source, root) == 2
        assert f"{tmp_path / taken} is there already" in capsys.readouterr().err
        assert names_below(root) == before
    (tmp_path / "file").write_text("x")
    assert run("coco", source, tmp_path / "file") == 2
    assert "is a file; give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch, exists: bool, error: BaseException) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN, names=("a.png", "b.png"))
    root = tmp_path / "out/set"
    if exists:
        root.mkdir(parents=True)
        (root / "notes").write_text("mine")
    before = names_below(tmp_path)
    copy = shutil.copyfile

    def fail(source, target):
        if source.name == "b.png":
            raise error
        copy(source, target)

    monkeypatch.setattr(importing.shutil, "copyfile", fail)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        importing.import_annotations("coco", source, root)
    assert names_below(tmp_path) == before


def test_an_interrupted_import_is_no_split(tmp_path) -> None:
    """Killed outright, it leaves a hidden folder, which the next import and the data set pass over."""
    source = coco(tmp_path / "in/x.json", DRAWN)
    left = tmp_path / "set/.set.import-0/train/images"
    left.mkdir(parents=True)
    photo(left / "half.png")
    assert run("coco", source, tmp_path / "set") == 0
    from segjax.data import builders

    assert list(builders.layout("folder", tmp_path / "set").splits) == ["train"]


def test_a_folder_that_cannot_be_written(tmp_path, capsys) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN)
    (tmp_path / "file").write_text("x")
    assert run("coco", source, tmp_path / "file/set") == 2
    assert "could not be written" in capsys.readouterr().err


def test_the_source_may_hold_the_data_set(tmp_path, capsys) -> None:
    """Images that an earlier import wrote below the source are not taken for the source's."""
    source = coco(tmp_path / "in/x.json", DRAWN, names=("p/a.png",))
    assert run("coco", source, tmp_path / "in/set") == 0
    (tmp_path / "in/p").rename(tmp_path / "in/q")
    content = json.loads(source.read_text())
    content["images"][0]["file_name"] = "a.png"
    source.write_text(json.dumps(content))
    assert run("coco", source, tmp_path / "in/set", "--split", "val") == 0


def test_classes_are_compared_by_name(tmp_path, capsys) -> None:
    first = coco(tmp_path / "in/x.json", DRAWN)
    assert run("coco", first, tmp_path / "set") == 0
    other = coco(tmp_path / "in/y.json", DRAWN, categories=("dog", "cat"))
    assert run("coco", other, tmp_path / "set", "--split", "val") == 0
    assert (label(tmp_path / "set", "a", "val") > 0).sum() == (label(tmp_path / "set", "a") > 0).sum()
    assert set(np.unique(label(tmp_path / "set", "a", "val"))) == {0, 2}
    fewer = coco(tmp_path / "in/z.json", DRAWN, categories=("dog",))
    assert run("coco", fewer, tmp_path / "set", "--split", "test") == 2
    assert f"'cat' is only in {tmp_path / 'set/classes.txt'}" in capsys.readouterr().err
    listing = ("--classes", tmp_path / "set/classes.txt")
    assert run("coco", fewer, tmp_path / "set", "--split", "test", *listing) == 0
    assert "noted: class of --classes that the source does not have: 'cat'" in capsys.readouterr().out
    assert set(np.unique(label(tmp_path / "set", "a", "test"))) == {0, 2}


def test_a_list_of_classes_chooses(tmp_path, capsys) -> None:
    source = coco(tmp_path / "in/x.json", [*DRAWN, {"segmentation": [[10, 8, 14, 8, 14, 11]], "category_id": 2}])
    (tmp_path / "names.txt").write_bytes("\ufeff# mine\r\ndog 9 8 7\r\n\r\nbackground 1 2 3\r\n".encode())
    assert run("coco", source, tmp_path / "set", "--classes", tmp_path / "names.txt") == 1
    assert "dropped: annotation of a category that is not in the class list: annotation 0" in capsys.readouterr().out
    assert (tmp_path / "set/classes.txt").read_text() == "dog 9 8 7\nbackground 1 2 3\n"
    assert set(np.unique(label(tmp_path / "set", "a"))) == {0, 1}
    assert label(tmp_path / "set", "a")[0, 0] == 1


def test_names_that_look_like_colours_and_names_that_cannot_be_written(tmp_path, capsys) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN, categories=("lane 1 2 3", "two  words\n"))
    assert run("coco", source, tmp_path / "set") == 0
    assert classes(tmp_path / "set") == ["background", "lane 1 2 3", "two words"]
    assert run("coco", source, tmp_path / "set", "--split", "val") == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "no class names"), ("a\na\n", "'a' is listed twice"), ("a 1 2 3\nb\n", "1 of 2 classes have a colour")],
)
def test_lists_of_classes_that_are_refused(tmp_path, capsys, text: str, told: str) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN)
    (tmp_path / "names.txt").write_text(text)
    assert run("coco", source, tmp_path / "set", "--classes", tmp_path / "names.txt") == 2
    assert told in capsys.readouterr().err


def test_bad_arguments_get_one_line(tmp_path, capsys) -> None:
    source = coco(tmp_path / "in/x.json", DRAWN)
    assert run("yolo", source, tmp_path / "set") == 2
    assert "--from: 'yolo' is no format. Known: cityscapes-ids, coco" in capsys.readouterr().err
    for split in ("../up", "images", ".x", "a/b"):
        assert run("coco", source, tmp_path / "set", "--split", split) == 2
        assert "cannot be the name of a split's folder" in capsys.readouterr().err
    assert run("coco", tmp_path / "none.json", tmp_path / "set") == 2
    assert "nothing is there" in capsys.readouterr().err
    assert run("coco", source, tmp_path / "set", "--images", tmp_path / "none") == 2
    assert "--images: no folder" in capsys.readouterr().err
    assert run("coco", source, tmp_path / "set", "--classes", tmp_path / "none") == 2
    assert "no such file; write one class a line" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_turn_as_images_do(orientation: int) -> None:
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(ids)
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(turn(ids, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_sizes_tell_which_pixels_coco_means(tmp_path, capsys, orientation: int) -> None:
    """COCO does not say whether it annotates stored or displayed images; where the sizes do not either, it is told."""
    photo(tmp_path / "in/a.jpg", SIZE, orientation)
    stored = coco(tmp_path / "in/stored.json", DRAWN, names=("a.jpg",), write=False)
    sideways = orientation >= 5
    assert run("coco", stored, tmp_path / "stored") == (0 if sideways else 2)
    if not sideways:
        assert "EXIF orientation of which the size does not tell" in capsys.readouterr().err
        return
    displayed = coco(tmp_path / "in/displayed.json", DRAWN, names=("a.jpg",), size=SIZE[::-1], write=False)
    assert run("coco", displayed, tmp_path / "displayed") == 0
    plain = photo(tmp_path / "plain/a.png").parent
    assert run("coco", stored, tmp_path / "plain_set", "--images", plain) == 2  # a.jpg is not a.png
    straight = coco(tmp_path / "plain/x.json", DRAWN)
    assert run("coco", straight, tmp_path / "straight") == 0
    expected = turn(label(tmp_path / "straight", "a"), orientation)
    np.testing.assert_array_equal(label(tmp_path / "stored", "a"), expected)
    assert label(tmp_path / "displayed", "a").shape == expected.shape
    assert (label(tmp_path / "displayed", "a") != expected).any()


def test_a_size_that_no_image_has_is_never_drawn(tmp_path, capsys) -> None:
    """The file's size is compared before an array of that size is made."""
    source = coco(tmp_path / "in/x.json", DRAWN, names=("a.png", "b.png"))
    content = json.loads(source.read_text())
    content["images"][0].update(height=10**9, width=10**9)
    content["annotations"].append({**content["annotations"][0], "id": 7, "image_id": 1})
    source.write_text(json.dumps(content))
    assert run("coco", source, tmp_path / "set") == 1
    assert (
        "image of another size than its annotations: a.png: 12x16, annotated as 1000000000x" in capsys.readouterr().out
    )


def test_grey_among_colour_is_noted(tmp_path, capsys) -> None:
    annotations = [{"segmentation": [TRIANGLE], "image_id": k} for k in range(2)]
    source = coco(tmp_path / "in/x.json", annotations, names=("a.png", "b.png"))
    Image.open(tmp_path / "in/b.png").convert("L").save(tmp_path / "in/b.png")
    assert run("coco", source, tmp_path / "set") == 0
    assert "--config.data.options.channels=3): 1 of 2 in train" in capsys.readouterr().out


def test_unreadable_images_are_dropped(tmp_path, capsys) -> None:
    annotations = [{"segmentation": [TRIANGLE], "image_id": k} for k in range(3)]
    source = coco(tmp_path / "in/x.json", annotations, names=("a.png", "b.png", "c.png"))
    (tmp_path / "in/b.png").write_bytes(b"no image")
    Image.open(tmp_path / "in/c.png").save(tmp_path / "in/c.gif")
    os.replace(tmp_path / "in/c.gif", tmp_path / "in/c.png")
    assert run("coco", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: image that cannot be read: " in told
    assert "dropped: image of a format that segjax does not read: " in told
    assert classes(tmp_path / "set") == ["background", "cat", "dog"]
    assert [path.name for path in (tmp_path / "set/train/labels").iterdir()] == ["a.png"]
