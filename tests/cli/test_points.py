"""Clouds through the verbs: train, resume, evaluate, predict, data; the same code as for images."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.cli.main import main
from segjax.data.clouds import CloudSource
from segjax.training.checkpoint import read_checkpoint

CONFIG = """
def get_config():
    return dict(
        name="tiny",
        task="points",
        model=dict(name="pointnet/test", options=dict(dropout=0.2)),
        data=dict(name="clouds", options=dict(points=96, count=6, eval_count=3)),
        augment=dict(count=48, scale=(0.8, 1.25), shift=0.1),
        train=dict(steps=3, batch_size=4, accumulate=2, ema=0.9, log_every=1, eval_every=3),
        eval=dict(batch_size=2, samples=1),
        checkpoint=dict(every=2, best="instance_miou"),
        log=dict(tensorboard=False),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def run(config, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", f"--config={config}", f"--workdir={workdir}"]) == 0
    return workdir


def test_what_a_run_leaves(run: Path):
    results = json.loads((run / "results.json").read_text())
    assert results["images"] == 3
    assert results["metrics"]["categories"] == ["chair", "lamp", "mug", "table"]
    assert results["metrics"]["per_category_miou"][3] is None  # three clouds, none of them a table
    scores = [record["instance_miou"] for record in results["per_image"]]
    assert results["metrics"]["instance_miou"] == pytest.approx(np.mean(scores))
    page = (run / "report.html").read_text()
    assert page.count("<figure>") == 6
    assert "instance mIoU" in page
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {"loss/points", "loss/transform", "grad_norm"} <= set(log[0])


def test_resumed_is_bitwise_the_undisturbed_run(run: Path, config: Path, tmp_path: Path, monkeypatch):
    """The second run is interrupted after its checkpoint of step 2, and goes on."""
    from segjax.training import loop

    def stop(self, step, values, add=loop.History.add):
        if step == 3:
            raise KeyboardInterrupt
        return add(self, step, values)

    argv = ["train", f"--config={config}", f"--workdir={tmp_path}/run"]
    with monkeypatch.context() as patch:
        patch.setattr(loop.History, "add", stop)
        assert main(argv) == 130
    assert read_checkpoint(tmp_path / "run", "last").step == 2
    assert main([*argv, "--resume"]) == 0
    ends = [read_checkpoint(folder, "last") for folder in (run, tmp_path / "run")]
    assert [end.step for end in ends] == [3, 3]
    for ours, theirs in zip(*(jax.tree.leaves(end.variables) for end in ends), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_evaluate_gives_the_runs_own_score(run: Path, tmp_path: Path, capsys):
    assert main(["evaluate", f"--checkpoint={run}", "--split=val", f"--output={tmp_path}/e.json"]) == 0
    found, own = (json.loads(path.read_text()) for path in (tmp_path / "e.json", run / "results.json"))
    assert found["metrics"] == own["metrics"]
    assert "instance mIoU" in capsys.readouterr().out


def test_predict_labels_files_of_clouds(run: Path, tmp_path: Path, capsys):
    source = CloudSource("val", points=96, count=3)
    folder = tmp_path / "in"
    folder.mkdir()
    for i, category in enumerate(("chair", "lamp")):
        np.savez(folder / f"{category}.npz", points=source[i]["points"], category=category)
    np.savez(folder / "large.npz", points=np.random.default_rng(0).normal(size=(130, 3)))
    (folder / "broken.npz").write_bytes(b"PK")
    argv = ["predict", f"--checkpoint={run}", f"--input={folder}", f"--output={tmp_path}/out", "--overlay"]
    assert main(argv) == 1
    assert "broken.npz: not a cloud" in capsys.readouterr().err
    labels = {path.stem: np.load(path)["label"] for path in (tmp_path / "out").glob("*.npz")}
    assert {name: len(label) for name, label in labels.items()} == {
        "chair": len(source[0]["points"]),
        "lamp": len(source[1]["points"]),
        "large": 130,
    }
    assert set(labels["chair"]) <= {0, 1, 2}
    assert set(labels["lamp"]) <= {3, 4, 5}
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (dict(points=np.ones((8, 3)), category="boat"), "category 'boat' is unknown"),
        (dict(points=np.ones((8, 2))), "[8, 2]"),
        (None, "network labels clouds"),
    ],
)
def test_what_cannot_be_labelled_is_one_line(content, words, run: Path, tmp_path: Path, capsys):
    path = tmp_path / ("a.png" if content is None else "a.npz")
    if content is None:
        path.write_bytes(b"")
    else:
        np.savez(path, **content)
    assert main(["predict", f"--checkpoint={run}", f"--input={path}", f"--output={tmp_path}/out"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert words in lines[0]


def test_data_shows_and_checks_clouds(tmp_path: Path, capsys):
    assert main(["data", "show", "clouds", "--count=2", f"--output={tmp_path}/sheet.png"]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    for name, part in (("train_a", [6, 7, 7]), ("train_b", [6, 9, 9])):
        np.savez(tmp_path / f"{name}.npz", pos=np.eye(3), label=np.array(part))
    capsys.readouterr()
    assert main(["data", "check", "shapenet_part", f"--root={tmp_path}"]) == 1
    shown = capsys.readouterr().out
    assert "train: 1 clouds of 3 to 3 points" in shown
    assert "train_b.npz: part 9 is none of a cap's" in shown
    assert main(["data", "prepare", "clouds"]) == 2


def test_a_score_of_another_task_is_named_before_training(config: Path, tmp_path: Path, capsys):
    argv = ["train", f"--config={config}", f"--workdir={tmp_path}/run", "--config.checkpoint.best=miou"]
    assert main(argv) == 2
    assert "no score 'miou'; set 'instance_miou'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
