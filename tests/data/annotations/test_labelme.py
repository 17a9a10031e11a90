"""labelme's files: label maps against labelme's own, every shape against its definition, images that are elsewhere."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sources import SIZE, classes, label, labelme, photo, run, shape
from tiny_sets import shared

from segjax.data.check import check

CORNER = [[0, 0], [3, 0], [3, 2], [0, 2]]


def test_label_maps_are_labelmes(tmp_path) -> None:
    """Pillow has changed polygons by a pixel since the fixtures were drawn."""
    source = shared("annotation_formats")
    for name in ("labelme", "labelme_instance"):
        root = tmp_path / name
        images = ("--images", source / "labelme")
        status = run("labelme", source / name, root, *images)
        assert status == (1 if name == "labelme" else 0)  # primitives.json has labels of its own
        assert classes(root) == ["background", *(source / name / "labels.txt").read_text().splitlines()[2:]]
        for stem in ("2011_000003", "2011_000006", "2011_000025"):
            expected = np.asarray(Image.open(source / name / f"{stem}_class.png"))
            assert (label(root, stem) != expected).sum() <= 1
        assert not check("folder", root).problems


def test_every_shape_of_labelme(tmp_path) -> None:
    """The shapes of labelme's own sample, drawn as its shape_to_mask defines them."""
    source = shared("annotation_formats") / "labelme"
    assert run("labelme", source / "primitives.json", tmp_path / "set", "--classes", _listing(tmp_path)) == 0
    names = classes(tmp_path / "set")
    picture = Image.new("L", (560, 450))
    draw = ImageDraw.Draw(picture)
    for box in ((32, 35, 132, 135), (391, 33, 542, 135)):
        draw.rectangle(box, fill=names.index("rectangle"))
    radius = float(np.hypot(30, 41))
    draw.ellipse((195 - radius, 84 - radius, 195 + radius, 84 + radius), fill=names.index("circle"))
    draw.polygon([(69, 318), (45, 403), (173, 406), (198, 321)], fill=names.index("polygon"))
    draw.line([(188, 178), (160, 224)], fill=names.index("line"), width=10)
    draw.ellipse((340, 169, 350, 179), fill=names.index("point"))
    strip = [(440.53703703703707, 181.46296296296293), (402.53703703703707, 274.46296296296293)]
    draw.line([*strip, (544.5370370370371, 275.46296296296293)], fill=names.index("line_strip"), width=10)
    drawn, expected = label(tmp_path / "set", "primitives"), np.asarray(picture)
    octagon = drawn == names.index("octagon")
    np.testing.assert_array_equal(np.where(octagon, 0, drawn), expected)
    rows, columns = np.nonzero(octagon)
    assert (rows.min(), columns.min(), rows.max(), columns.max()) == (305, 417, 404, 516)
    assert octagon[354, 466]
    assert not octagon[305, 417]


def _listing(folder):
    path = folder / "names.txt"
    path.write_text("rectangle\ncircle\npolygon\nline\npoint\nline_strip\noctagon\n")
    return path


def test_order_background_and_ignore(tmp_path) -> None:
    shapes = [
        shape("b", [[0, 0], [7, 0], [7, 7], [0, 7]]),
        shape("_background_", [[0, 0], [1, 0], [1, 1], [0, 1]]),
        shape("__ignore__", [[4, 4], [5, 4], [5, 5], [4, 5]]),
        shape("a", CORNER),
    ]
    labelme(tmp_path / "in/x.json", shapes)
    photo(tmp_path / "in/x.png")
    assert run("labelme", tmp_path / "in", tmp_path / "set") == 0
    assert classes(tmp_path / "set") == ["background", "a", "b"]
    expected = np.zeros(SIZE)
    expected[:8, :8] = 2
    expected[4:6, 4:6] = 255
    expected[:3, :4] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), expected)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (shape("a", [[1, 1], [2, 2]]), "polygon with fewer than 3 points"),
        (shape("a", [[1, 1], [1, 9]], "rectangle"), "empty or inverted box"),
        (shape("a", [[1, 1], [2, 2], [3, 3]], "circle"), "shape with another number of points than its type has"),
        (shape("a", [[1, 1], [9, 9]], "rotation"), "shape of a type that covers no area or is not read"),
        (shape("a", [[90, 90], [99, 90], [99, 99]]), "shape outside the image"),
        (shape("a", [[1, 1], [9, 9]], "mask", mask="AAAA"), "mask that cannot be read"),
        (shape("a", [[1, 1], [9, 9]], "mask"), "mask that cannot be read"),
        (shape("", CORNER), "shape without a label"),
        (7, "shape that is no object"),
        (shape("a", None), "coordinates that are not pairs of numbers"),
    ],
)
def test_shapes_that_are_dropped(tmp_path, capsys, bad: dict, told: str) -> None:
    photo(tmp_path / "x.png")
    source = labelme(tmp_path / "x.json", [shape("a", CORNER), bad])
    assert run("labelme", source, tmp_path / "set") == 1
    assert f"dropped: {told}: {source}, shapes[1]: " in capsys.readouterr().out


def test_a_mask_of_another_size_is_dropped(tmp_path, capsys) -> None:
    buffer = io.BytesIO()
    Image.new("L", (3, 3), 255).save(buffer, "png")
    text = base64.b64encode(buffer.getvalue()).decode()
    shapes = [shape("a", [[1, 1], [3, 3]], "mask", mask=text), shape("a", [[5, 5], [9, 9]], "mask", mask=text)]
    photo(tmp_path / "x.png")
    assert run("labelme", labelme(tmp_path / "x.json", shapes), tmp_path / "set") == 1
    assert "dropped: mask of another size than its box: " in capsys.readouterr().out
    expected = np.zeros(SIZE)
    expected[1:4, 1:4] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), expected)


def test_image_paths(tmp_path, capsys) -> None:
    """Beside, in a neighbouring folder that SRC holds, by Windows' path, and outside."""
    source = tmp_path / "in"
    for name, path in (("a", "..\\images\\a.png"), ("b", "../images/sub/b.png"), ("c", "D:\\work\\c.png")):
        labelme(source / "labels" / f"{name}.json", [shape("a", CORNER)], imagePath=path)
    photo(source / "images/a.png")
    photo(source / "images/sub/b.png")
    photo(source / "images/c.png")
    labelme(source / "labels/d.json", [shape("a", CORNER)], imagePath="../../../outside/d.png")
    photo(tmp_path / "outside/d.png")
    assert run("labelme", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: image outside the folders that may be read (--images): ../../../outside/d.png (of " in told
    assert {path.stem for path in (tmp_path / "set/train/images").iterdir()} == {"a", "b", "c"}
    assert run("labelme", source / "labels", tmp_path / "other") == 2
    assert "image outside the folders that may be read (--images): 4" in capsys.readouterr().err
    assert run("labelme", source / "labels", tmp_path / "other", "--images", source / "images") == 1


def test_the_image_inside_the_file(tmp_path, capsys) -> None:
    data = photo(tmp_path / "elsewhere/x.jpg").read_bytes()
    text = base64.b64encode(data).decode()
    labelme(tmp_path / "in/x.json", [shape("a", CORNER)], imageData=text)
    labelme(tmp_path / "in/y.json", [shape("a", CORNER)], imageData="AAAA")
    assert run("labelme", tmp_path / "in", tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "noted: image taken from the label file (imageData): " in told
    assert "dropped: image of a format that segjax does not read: the imageData of " in told
    assert (tmp_path / "set/train/images/x.jpg").read_bytes() == data
    assert label(tmp_path / "set", "x")[0, 0] == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_on_their_side(tmp_path, orientation: int) -> None:
    """labelme annotates what it displays; segjax shows an image the same way."""
    upright = SIZE
    stored = upright[::-1] if orientation >= 5 else upright
    photo(tmp_path / "x.jpg", stored, orientation)
    source = labelme(tmp_path / "x.json", [shape("a", CORNER)], imagePath="x.jpg")
    assert run("labelme", source, tmp_path / "set") == 0
    expected = np.zeros(SIZE)
    expected[:3, :4] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), expected)
    assert not check("folder", tmp_path / "set").problems


def test_broken_and_foreign_files_are_told(tmp_path, capsys) -> None:
    labelme(tmp_path / "in/x.json", [shape("a", CORNER)])
    photo(tmp_path / "in/x.png")
    (tmp_path / "in/broken.json").write_text("{")
    (tmp_path / "in/coco.json").write_text('{"images": [], "annotations": []}')
    labelme(tmp_path / "in/again.json", [shape("a", CORNER)], imagePath="x.png")
    assert run("labelme", tmp_path / "in", tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: label file that cannot be read: 2, such as " in told
    assert "dropped: label file for an image that has one already: " in told
    (tmp_path / "in/x.json").unlink()
    (tmp_path / "in/again.json").unlink()
    assert run("labelme", tmp_path / "in", tmp_path / "other") == 2
    assert "broken JSON" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("labelme", tmp_path / "empty", tmp_path / "other") == 2
    assert "no .json file" in capsys.readouterr().err


def test_a_later_split_may_have_fewer_classes_but_no_new_one(tmp_path, capsys) -> None:
    for name, labels in (("train", "ba"), ("val", "b"), ("test", "bc")):
        source = labelme(tmp_path / name / f"{name}.json", [shape(k, CORNER) for k in labels])
        photo(tmp_path / name / f"{name}.png")
        status = run("labelme", source, tmp_path / "set", "--split", name)
        assert status == (2 if name == "test" else 0)
    assert "'c' is only in" in capsys.readouterr().err
    assert label(tmp_path / "set", "val", "val")[0, 0] == 2
    assert not (tmp_path / "set/test").exists()
    listing = ("--classes", tmp_path / "set/classes.txt")
    assert run("labelme", tmp_path / "test", tmp_path / "set", "--split", "test", *listing) == 1
    assert "dropped: shape of a label that is not in the class list: " in capsys.readouterr().out
