"""A checkpoint or label files meet a data set: classes are matched by name, and what does not match is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.cli.main import main
from segjax.core.schema import IGNORE
from segjax.inference.evaluate import renumbered
from tests.cli.tiny_weights import OPTIONS, write_unet
from tests.data.tiny_sets import make_folder

NAMES = ("class 0", "class 1", "class 2")
ORDER = (2, 0, 1)  # of NAMES in the set `turned`


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Sets `plain`, `turned` (the same scenes, other numbers), `other` (other names); checkpoints `run`, `void`."""
    root = tmp_path_factory.mktemp("classes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(root / "cache"))
        for name in ("plain", "turned", "other"):
            make_folder(root / name, splits={"val": 3}, classes=3)
        for path in (root / "turned" / "val" / "labels").iterdir():
            label = np.argsort(ORDER).astype(np.uint8)[np.asarray(Image.open(path))]
            Image.fromarray(label).save(path)
        (root / "turned" / "classes.txt").write_text("".join(f"{NAMES[k]}\n" for k in ORDER))
        (root / "other" / "classes.txt").write_text("class 0\ntree\nclass 2\n")
        (root / "four.txt").write_text("unlabelled\nclass 0\nclass 1\nclass 2\n")
        (root / "three.txt").write_text("".join(f"{name}\n" for name in NAMES))
        for name, classes, more in (("run", 3, []), ("void", 4, ["--void-class", "unlabelled"])):
            weights = write_unet(root / f"{name}.npz", classes)
            listing = root / ("four.txt" if classes == 4 else "three.txt")
            start = ["convert", "--from", str(weights), "--model", "unet/same", "--out", str(root / name), *OPTIONS]
            assert main([*start, "--classes", str(listing), "--input", "whole", *more]) == 0
        yield root


def score(place: Path, what: list[str], data: str, *more: str) -> dict:
    kept = place / "kept.json"
    common = ["--split=val", "--config.data.name=folder", f"--config.data.root={place / data}", f"--output={kept}"]
    assert main(["evaluate", *what, *common, *more]) == 0
    return json.loads(kept.read_text())["metrics"]


def refused(place: Path, what: list[str], data: str, capsys, *more: str) -> str:
    common = ["--split=val", "--config.data.name=folder", f"--config.data.root={place / data}"]
    assert main(["evaluate", *what, *common, *more]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing")]
    assert len(said) == 1
    return said[0]


def test_names_in_another_order_are_scored_under_their_own(place, capsys):
    plain = score(place, [f"--checkpoint={place / 'run'}"], "plain")
    capsys.readouterr()
    turned = score(place, [f"--checkpoint={place / 'run'}"], "turned")
    assert "in another order" in capsys.readouterr().out
    assert turned["classes"] == [NAMES[k] for k in ORDER]
    assert turned["miou"] == plain["miou"]
    assert turned["per_class_iou"] == [plain["per_class_iou"][k] for k in ORDER]
    assert len({value for value in plain["per_class_iou"] if value}) > 1  # or an order could not be seen


def test_other_names_are_refused_and_can_be_insisted_on(place, capsys):
    said = refused(place, [f"--checkpoint={place / 'run'}"], "other", capsys)
    assert "class 1 is 'class 1' there and 'tree' here" in said
    assert "--classes-differ" in said
    plain = score(place, [f"--checkpoint={place / 'run'}"], "plain")
    insisted = score(place, [f"--checkpoint={place / 'run'}"], "other", "--classes-differ")
    assert insisted["per_class_iou"] == plain["per_class_iou"]
    assert insisted["classes"] == ["class 0", "tree", "class 2"]


def test_an_output_for_void_is_no_class(place, tmp_path, capsys):
    """Four outputs, the first of them void, on a set of three: predicted void is a miss under `ignore`."""
    direct = score(place, [f"--checkpoint={place / 'void'}"], "plain")
    matrix = np.array(direct["confusion"])
    assert matrix.shape == (4, 4)
    assert matrix[:3, 3].sum() > 0
    predict = ["predict", f"--checkpoint={place / 'void'}", f"--input={place / 'plain' / 'val' / 'images'}"]
    assert main([*predict, f"--output={tmp_path / 'out'}"]) == 0
    written = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").glob("*.png"))])
    assert set(np.unique(written)) <= {1, 2, 3, IGNORE}
    assert (written == IGNORE).sum() == matrix[:, 3].sum()
    (tmp_path / "out" / "classes.txt").write_text((place / "four.txt").read_text())
    capsys.readouterr()
    for what in ([], [f"--checkpoint={place / 'void'}"]):
        assert score(place, [f"--predictions={tmp_path / 'out'}", *what], "plain")["confusion"] == direct["confusion"]


def test_label_files_are_matched_by_their_own_list(place, tmp_path, capsys):
    labels = place / "turned" / "val" / "labels"
    perfect = score(place, [f"--predictions={labels}"], "turned")
    assert perfect["miou"] == 1.0
    out = tmp_path / "out"
    out.mkdir()
    for path in labels.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    (out / "classes.txt").write_text((place / "turned" / "classes.txt").read_text())
    assert score(place, [f"--predictions={out}"], "plain")["miou"] == 1.0  # the same truth by name
    assert "in another order" in capsys.readouterr().out
    assert "'class 1' is only there and 'tree' is only here" in refused(
        place, [f"--predictions={out}"], "other", capsys
    )
    (out / "classes.txt").write_text("class 0\nclass 1\n")
    said = refused(place, [f"--predictions={out}"], "plain", capsys, "--classes-differ")
    assert "num_classes: the data set 'folder' has 3" in said
    assert "'class 2' is only here" in said
    # Without a list of its own, the checkpoint that wrote it is what its numbers mean.
    (out / "classes.txt").unlink()
    assert "'tree' here" in refused(place, [f"--predictions={out}", f"--checkpoint={place / 'run'}"], "other", capsys)


def test_pixels_of_another_type_are_refused(place, tmp_path, capsys):
    for split in ("val",):
        for kind in ("images", "labels"):
            (tmp_path / "deep" / split / kind).mkdir(parents=True)
        for i in range(2):
            image = np.full((12, 16, 3), 1000 * i, np.uint16)
            np.save(tmp_path / "deep" / split / "images" / f"{i}.npy", image)
            Image.fromarray(np.zeros((12, 16), np.uint8)).save(tmp_path / "deep" / split / "labels" / f"{i}.png")
    (tmp_path / "deep" / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    more = ["--split=val", "--config.data.name=folder", f"--config.data.root={tmp_path / 'deep'}"]
    more += ["--config.data.train_split=val", "--config.data.options.statistics=imagenet"]
    assert main(["evaluate", f"--checkpoint={place / 'run'}", *more]) == 2
    assert "image_dtype: the data set 'folder' has uint16" in capsys.readouterr().err


def test_renumbering_keeps_void_and_the_plain_order():
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert renumbered(len, (0, 1, 2)) is len
    found = renumbered(lambda placed, batch: {"label": labels}, (2, IGNORE, 0))(None, None)
    np.testing.assert_array_equal(found["label"], [[2, IGNORE, 0, IGNORE]])
