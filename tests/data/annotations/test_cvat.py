"""CVAT: the tool's own samples, shapes by COCO's and OpenCV's rule, tracks, and files that are something else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sources import SIZE, classes, label, photo, run
from tiny_sets import shared

META = (
    "<meta><task><start_frame>{}</start_frame><stop_frame>{}</stop_frame><frame_filter>{}</frame_filter><labels>"
    "<label><name>a</name></label><label><name>b</name></label></labels></task></meta>"
)
BOX = '<box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}"{}/>'


def images_xml(folder, shapes: str, *, names=("x.png",), more: str = ""):
    path = folder / "annotations.xml"
    folder.mkdir(parents=True, exist_ok=True)
    images = "".join(f'<image id="0" name="{n}" width="16" height="12"{more}>{shapes}</image>' for n in names)
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?><annotations>{META}{images}</annotations>'.format(0, 0, ""))
    return path


def boxes(*listed: tuple[int, int, int, int, int]) -> np.ndarray:
    expected = np.zeros(SIZE)
    for ident, left, top, right, bottom in listed:
        expected[top:bottom, left:right] = ident
    return expected


def test_cvats_sample_of_images(tmp_path, capsys) -> None:
    source = shared("annotation_formats") / "cvat/images.xml"
    assert run("cvat", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: shape of a type that covers no area or is not read: 4, such as img0.jpg" in told
    assert "dropped: shape of a label that is not in the class list: img1.jpg, shape 0 (polygon): ''" in told
    assert classes(tmp_path / "set") == ["background", "label1", "label2"]
    expected = np.zeros((8, 8))
    expected[2:4, :4] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "img0"), expected)


def test_cvats_sample_of_video(tmp_path, capsys) -> None:
    source = shared("annotation_formats") / "cvat/video.xml"
    assert run("cvat", source, tmp_path / "set") == 2
    assert "none of which is there as frame_000010.png" in capsys.readouterr().err
    for frame in (10, 13, 16):
        photo(tmp_path / f"frames/frame_{frame:06d}.png", (20, 25))
    assert run("cvat", source, tmp_path / "set", "--images", tmp_path / "frames") == 1
    assert "dropped: image missing on disk: frame_000019.png" in capsys.readouterr().out
    assert classes(tmp_path / "set") == ["background", "klhg", "z U k", "II"]
    expected = np.zeros((20, 25))
    expected[4:5, 3:10] = 3
    np.testing.assert_array_equal(label(tmp_path / "set", "frame_000010"), expected)
    assert not label(tmp_path / "set", "frame_000013").any()


def test_shapes_and_their_order(tmp_path) -> None:
    shapes = (
        BOX.format("b", 2, 2, 8, 8, ' z_order="1"')
        + BOX.format("a", 0, 0, 6, 6, ' z_order="0"')
        + '<mask label="a" rle="1, 2, 1, 2" left="12" top="3" width="3" height="2"/>'
        + '<polygon label="b" points="0.00,9.00;4.00,9.00;4.00,11.00;0.00,11.00"/>'
        + '<tag label="a"/>'
    )
    photo(tmp_path / "in/images/x.png")
    assert run("cvat", images_xml(tmp_path / "in", shapes).parent, tmp_path / "set") == 0
    expected = boxes((1, 0, 0, 6, 6), (2, 2, 2, 8, 8), (2, 0, 9, 4, 11))
    expected[3, 13:15] = expected[4, 13:15] = 1
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), expected)


def test_ellipses_are_opencvs(tmp_path) -> None:
    shapes = '<ellipse label="a" cx="7.4" cy="5.6" rx="5.5" ry="2.2" rotation="30"/>'
    photo(tmp_path / "in/x.png")
    assert run("cvat", images_xml(tmp_path / "in", shapes), tmp_path / "set") == 0
    expected = np.zeros(SIZE, np.uint8)
    cv2.ellipse(expected, (7, 6), (6, 2), 30, 0, 360, 1, thickness=-1)
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), expected)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (BOX.format("a", 5, 5, 2, 8, ""), "empty or inverted box"),
        (BOX.format("a", 5, 5, "x", 8, ""), "coordinates that are not finite"),
        (BOX.format("a", 50, 5, 60, 8, ""), "shape outside the image"),
        ('<polygon label="a" points="1,2;3,4"/>', "polygon with fewer than 3 points"),
        ('<polygon label="a" points="1,2;3;5,6"/>', "coordinates that are not pairs of numbers"),
        ('<mask label="a" rle="1, 2" left="1" top="1" width="3" height="2"/>', "RLE of another size"),
        ('<mask label="a" rle="x" left="1" top="1" width="3" height="2"/>', "RLE that is damaged"),
        ('<cuboid label="a"/>', "shape of a type that covers no area or is not read"),
        (BOX.format("c", 5, 5, 8, 8, ""), "shape of a label that is not in the class list"),
    ],
)
def test_shapes_that_are_dropped(tmp_path, capsys, bad: str, told: str) -> None:
    photo(tmp_path / "in/x.png")
    source = images_xml(tmp_path / "in", BOX.format("a", 0, 0, 3, 3, "") + bad)
    assert run("cvat", source, tmp_path / "set") == 1
    assert f"dropped: {told}: x.png, shape 1" in capsys.readouterr().out
    np.testing.assert_array_equal(label(tmp_path / "set", "x"), boxes((1, 0, 0, 3, 3)))


def test_subsets_are_splits(tmp_path, capsys) -> None:
    for name in "xy":
        photo(tmp_path / f"in/images/{name}.png")
    source = images_xml(tmp_path / "in", BOX.format("a", 0, 0, 3, 3, ""), names=("x.png", "y.png"))
    text = (
        source.read_text()
        .replace('"x.png"', '"x.png" subset="Train"')
        .replace('"y.png"', '"y.png" subset="Validation"')
    )
    source.write_text(text)
    assert run("cvat", source, tmp_path / "set") == 0
    assert label(tmp_path / "set", "y", "val").any()
    assert label(tmp_path / "set", "x", "train").any()
    assert run("cvat", source, tmp_path / "one", "--split", "val") == 0
    assert not (tmp_path / "one/train").exists()
    assert run("cvat", source, tmp_path / "none", "--split", "test") == 2
    assert "no split 'test'; it has train, val" in capsys.readouterr().err


def track(*listed: str) -> str:
    return f'<track id="7" label="b">{"".join(listed)}</track>'


def key(frame: int, left: float, outside: int = 0, more: str = "") -> str:
    place = f'xtl="{left}" ytl="2" xbr="{left + 4}" ybr="6"'
    return f'<box frame="{frame}" outside="{outside}" keyframe="1" {place} z_order="0"{more}/>'


def video(folder, tracks: str, frames: range = range(0, 6), step: str = ""):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "annotations.xml"
    meta = META.format(frames[0], frames[-1], step)
    path.write_text(f"<annotations>{meta}{tracks}</annotations>")
    for frame in frames:
        photo(folder / f"images/frame_{frame:06d}.PNG")
    return path


def test_boxes_move_evenly_between_keyframes_and_last_until_outside(tmp_path) -> None:
    source = video(tmp_path / "in", track(key(1, 0), key(3, 4), key(4, 4, outside=1)))
    assert run("cvat", source, tmp_path / "set") == 0
    for frame, left in ((1, 0), (2, 2), (3, 4)):
        drawn = label(tmp_path / "set", f"frame_{frame:06d}")
        np.testing.assert_array_equal(drawn, boxes((2, left, 2, left + 4, 6)))
    for frame in (0, 4, 5):
        assert not label(tmp_path / "set", f"frame_{frame:06d}").any()


def test_a_track_lasts_to_the_last_frame(tmp_path) -> None:
    source = video(tmp_path / "in", track(key(4, 0)), range(0, 9, 2), "step=2")
    assert run("cvat", source, tmp_path / "set") == 0
    assert [label(tmp_path / "set", f"frame_{frame:06d}").any() for frame in range(0, 9, 2)] == [0, 0, 1, 1, 1]


def test_boxes_turn_the_shorter_way(tmp_path) -> None:
    """From 350 to 10 degrees, a quarter of the way is 355."""
    turned = track(
        '<box frame="0" outside="0" xtl="2" ytl="4" xbr="14" ybr="8" rotation="350"/>',
        '<box frame="4" outside="0" xtl="2" ytl="4" xbr="14" ybr="8" rotation="10"/>',
    )
    assert run("cvat", video(tmp_path / "in", turned, range(0, 5)), tmp_path / "set") == 0
    still = '<box label="b" xtl="2" ytl="4" xbr="14" ybr="8" rotation="{}"/>'
    photo(tmp_path / "still/x.png")
    for degrees, frame in ((355, 1), (0, 2)):
        root = tmp_path / f"set {degrees}"
        assert run("cvat", images_xml(tmp_path / "still", still.format(degrees)), root) == 0
        np.testing.assert_array_equal(label(tmp_path / "set", f"frame_{frame:06d}"), label(root, "x"))
    assert (label(tmp_path / "set", "frame_000001") != label(tmp_path / "set", "frame_000002")).any()


def test_polygons_between_keyframes_are_told_unless_they_stay(tmp_path, capsys) -> None:
    def polygon(frame: int, right: int) -> str:
        return f'<polygon frame="{frame}" outside="0" keyframe="1" points="0,0;{right},0;{right},3;0,3"/>'

    source = video(tmp_path / "in", track(polygon(0, 4), polygon(2, 4), polygon(4, 8)))
    assert run("cvat", source, tmp_path / "set") == 1
    told = capsys.readouterr().out
    assert "dropped: shape of a frame between keyframes (export with every frame): track 7, frame 3 (polygon)" in told
    assert [label(tmp_path / "set", f"frame_{frame:06d}").any() for frame in range(5)] == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares a document type"),
        ('<!DOCTYPE annotations SYSTEM "file:///etc/passwd"><annotations/>', "declares a document type"),
        ("<annotations><meta>", "broken XML"),
        ("<a>" * 1000, "more than 100 elements within each other"),
        ('{"images": []}', "not XML; it looks like JSON"),
        ("<annotation><object><bndbox/></object></annotation>", "it looks like Pascal VOC boxes, which are no masks"),
        ("<annotation><object><polygon/></object></annotation>", "it looks like a file of the LabelMe web tool"),
        ("<svg/>", "it looks like XML whose root is <svg>"),
        ("<annotations/>", "lists no labels"),
        ("", "the file is empty"),
    ],
)
def test_other_files_get_one_line(tmp_path, capsys, content: str, told: str) -> None:
    source = tmp_path / "annotations.xml"
    source.write_text(content)
    assert run("cvat", source, tmp_path / "set") == 2
    error = capsys.readouterr().err
    assert told in error
    assert str(source) in error
    assert error.count("\n") == 1
