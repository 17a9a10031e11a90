"""`segjax train` on a user's own folder: what it leaves, and bad input, each one line and nothing written over."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.cli.main import main
from tests.data.tiny_sets import make_folder

CONFIG = """
def get_config():
    return dict(
        name="tiny",
        model=dict(name="unet/test"),
        data=dict(name="folder", crop_size=(16, 16)),
        train=dict(steps=2, batch_size=2, log_every=1, eval_every=2),
        eval=dict(batch_size=2),
        log=dict(tensorboard=False),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "photos", size=(20, 24))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(config: Path, folder: Path, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", f"--config={config}", f"--config.data.root={folder}", f"--workdir={workdir}"]) == 0
    return workdir


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _refused(argv: list[str], capsys) -> str:
    assert main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("preparing ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("segjax train: ")
    return lines[0]


def test_what_a_run_leaves(run: Path):
    results = json.loads((run / "results.json").read_text())
    assert results["split"] == "val"
    assert results["images"] == 2
    assert len(results["metrics"]["per_class_iou"]) == 3
    kinds = [json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert kinds == ["train", "train", "eval"]
    assert (run / "report.html").stat().st_size > 10_000


def _size_mismatch(root: Path) -> str:
    Image.fromarray(np.zeros((20, 23), np.uint8)).save(root / "train" / "labels" / "01.png")
    return "20x23"


def _unknown_label(root: Path) -> str:
    label = np.zeros((20, 24), np.uint8)
    label[0, :5] = 77
    Image.fromarray(label).save(root / "train" / "labels" / "01.png")
    return "77"


def _truncated(root: Path) -> str:
    path = root / "train" / "images" / "01.png"
    path.write_bytes(path.read_bytes()[:200])
    return "01.png"


def _palette_label_outside(root: Path) -> str:
    label = Image.fromarray(np.full((20, 24), 9, np.uint8), mode="P")
    label.putpalette(list(range(256)) * 3)
    label.save(root / "train" / "labels" / "01.png")
    return "9"


def _wide_label(root: Path) -> str:
    Image.fromarray(np.full((20, 24), 4000, np.uint16)).save(root / "train" / "labels" / "01.png")
    return "4000"


@pytest.mark.parametrize("harm", [_size_mismatch, _unknown_label, _truncated, _palette_label_outside, _wide_label])
def test_bad_files_are_named(harm, config: Path, tmp_path: Path, capsys):
    root = make_folder(tmp_path / "photos", size=(20, 24))
    detail = harm(root)
    workdir = tmp_path / "run"
    shown = _refused(["train", f"--config={config}", f"--config.data.root={root}", f"--workdir={workdir}"], capsys)
    assert "01.png" in shown
    assert detail in shown
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.root=nowhere", "nowhere"),
        (
            "data.crop_size=(16,18)",
            "config.data.crop_size: 16x18 is not a multiple of unet/test's stride 4; use (16, 20)",
        ),
        ("data.train_split=training", "split 'training'"),
        ("data.name=folders", "folders"),
        ("model.options.dept=2", "no field 'dept'"),
        ("loss.class_weights=(1,2)", "2 numbers, 3 classes"),
        ("parallel.data=3", "3"),
    ],
)
def test_impossible_settings_are_named(override, words, config: Path, folder: Path, tmp_path: Path, capsys):
    flags = [f"--config={config}", f"--config.data.root={folder}", f"--workdir={tmp_path}/run", f"--config.{override}"]
    assert words in _refused(["train", *flags], capsys)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_workdir_of_another_config_is_left_alone(run: Path, config: Path, folder: Path, capsys):
    before = _files(run)
    flags = [f"--config={config}", f"--config.data.root={folder}", f"--workdir={run}"]
    assert "--resume" in _refused(["train", *flags], capsys)
    shown = _refused(["train", *flags, "--resume", "--config.optim.learning_rate=0.5"], capsys)
    assert "optim.learning_rate is 0.001 there and 0.5 here" in shown
    assert _files(run) == before


def test_other_classes_than_the_checkpoint(run: Path, config: Path, tmp_path: Path, capsys):
    before = _files(run)
    root = make_folder(tmp_path / "photos", size=(20, 24), classes=5)
    flags = [f"--config={config}", f"--config.data.root={root}", f"--workdir={run}", "--resume"]
    assert "the checkpoint has 3 classes, the config asks for 5" in _refused(["train", *flags], capsys)
    assert _files(run) == before


def test_no_space_left_on_the_device(config: Path, folder: Path, tmp_path: Path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a full disk needs the right to mount one")
    try:
        flags = [f"--config={config}", f"--config.data.root={folder}", f"--workdir={disk}/run"]
        assert "no space left" in _refused(["train", *flags], capsys).lower()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
