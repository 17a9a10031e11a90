"""`segjax data check` and `show`: every fault found in one pass, frequencies counted, exit statuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_sets import make_folder

from segjax.cli.main import main
from segjax.data.check import check


@pytest.fixture
def broken(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 8, "val": 2})
    train = root / "train"
    (train / "images/00.png").write_bytes((train / "images/00.png").read_bytes()[:-30])
    (train / "labels/01.png").write_bytes(b"")
    label = np.asarray(Image.open(train / "labels/02.png")).copy()
    label[0, :4], label[1, :2] = 77, 200
    Image.fromarray(label).save(train / "labels/02.png")
    Image.fromarray(np.zeros((5, 16), np.uint8)).save(train / "labels/03.png")
    (train / "labels/04.png").unlink()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(train / "labels/extra.png")
    (train / "images/05.png").unlink()
    np.save(train / "images/05.npy", np.zeros((12, 16, 3), np.uint16))
    return root


def test_every_fault_is_found(broken):
    problems = check("folder", broken).problems
    found = {(problem.kind, problem.text.removeprefix(f"{broken}/train/").split(":")[0]) for problem in problems}
    assert found == {
        ("unreadable or unfit image", "images/00.png"),
        ("unreadable label", "labels/01.png"),
        ("unknown label value", "labels/02.png"),
        ("size mismatch", "labels/03.png"),
        ("image without a label", "images/04.png"),
        ("label without an image", "labels/extra.png"),
        ("unfit image", "images/05.npy"),
    }
    values = [problem.text.split(": ")[1] for problem in problems if problem.kind == "unknown label value"]
    assert values == ["value 77 on 4 pixels", "value 200 on 2 pixels"]
    assert all("\n" not in problem.text for problem in problems)


def test_exit_status_and_report(broken, capsys):
    assert main(["data", "check", "folder", "--root", str(broken)]) == 1
    text = capsys.readouterr().out
    assert "8 problems" in text
    assert "value 77 on 4 pixels" in text
    for path in (broken / "train").rglob("*"):
        if path.is_file():
            path.unlink()
    assert main(["data", "check", "folder", "--root", str(broken)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_frequencies(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 3})
    Image.fromarray(np.full((12, 16), 2, np.uint8)).save(root / "train/labels/01.png")
    report = check("folder", root)
    labels = np.stack([np.asarray(Image.open(p)) for p in sorted((root / "train/labels").iterdir())])
    images = np.stack([np.asarray(Image.open(p)) for p in sorted((root / "train/images").iterdir())])
    counts = report.counts["train"]
    np.testing.assert_array_equal(counts.pixels, [(labels == k).sum() for k in range(3)])
    np.testing.assert_array_equal(counts.images_with, [2, 2, 3])
    np.testing.assert_allclose(counts.mean(), images.mean((0, 1, 2)))
    np.testing.assert_allclose(counts.std(), images.std((0, 1, 2)))
    shares = [line.split()[-2] for line in report.lines() if line.startswith("  class ")]
    assert shares[1:] == [f"{(labels == k).mean():.3%}" for k in range(3)]


def test_suspicious_masks(tmp_path):
    root = make_folder(tmp_path / "set", splits={"train": 2}, classes=2)
    for path in (root / "train/labels").iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 255).save(path)
    assert [problem.kind for problem in check("folder", root).problems] == ["suspicious masks"]
    assert not check("folder", root, {"values": {255: 1}}).problems


def test_prepare_and_show(tmp_path, capsys):
    root = make_folder(tmp_path / "set")
    common = ["folder", "--root", str(root), "--cache", str(tmp_path / "cache"), "--option", "ignore=(2,)"]
    assert main(["data", "prepare", *common]) == 0
    directory = capsys.readouterr().out.strip()
    assert directory.startswith(str(tmp_path / "cache"))
    sheet = tmp_path / "sheet.png"
    assert main(["data", "show", *common, "--count", "3", "--split", "val", "--output", str(sheet)]) == 0
    picture = np.asarray(Image.open(sheet))
    image = np.asarray(Image.open(root / "val/images/00.png"))
    np.testing.assert_array_equal(picture[:12, :16], image)
    assert picture.shape[1] >= 3 * 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "folder", "--root", "/nowhere"], "no folder '/nowhere'"),
        (["prepare", "camvid"], "--root DIR"),
        (["check", "scenes"], "drawn when it is read"),
        (["prepare", "folder", "--root", "/", "--option", "channels"], "not KEY=VALUE"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
