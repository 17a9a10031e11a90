"""`segjax sweep` from the command line; the queue and the table have tests of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.cli.main import main
from segjax.training.checkpoint import committed_steps, read_checkpoint

CONFIG = """
def get_config():
    return dict(
        name="tiny",
        model=dict(name="unet/test"),
        data=dict(name="scenes", crop_size=(16, 16), options=dict(count=6, eval_count=2, height=24, width=32)),
        train=dict(steps=6, batch_size=2, log_every=1, eval_every=2),
        eval=dict(batch_size=2, boundary=False),
        log=dict(tensorboard=False),
    )


def sweep(config):
    for rate in (0.0, 0.5):
        for seed in (0, 1):
            yield {"model.options.dropout": rate, "seed": seed}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("SEGJAX_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return path


def test_list_shows_what_would_run(config: Path, capsys) -> None:
    assert main(["sweep", f"--config={config}", "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["0", "dropout=0,seed=0"],
        ["1", "dropout=0,seed=1"],
        ["2", "dropout=0.5,seed=0"],
        ["3", "dropout=0.5,seed=1"],
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--jobs=0"], "--jobs: 0 is below 1"),
        (["--shard=2/2"], "--shard: '2/2' is not i/n"),
        (["--config.trian.steps=1"], "Did you mean 'train'"),
        (["--config.model.name=fcn/test", "--config.model.options={'featurs': 1}"], "has no field"),
    ],
)
def test_bad_input_is_one_line(flags, words, config: Path, tmp_path: Path, capsys) -> None:
    assert main(["sweep", f"--config={config}", f"--workdir={tmp_path}/out", *flags]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_config_without_a_sweep(capsys) -> None:
    assert main(["sweep", "--config=configs/quickstart.py"]) == 2
    assert "configs/quickstart.py has no sweep(config)" in capsys.readouterr().err


def test_a_shard_leaves_what_runs_leave(config: Path, tmp_path: Path, capsys) -> None:
    """Every second variant; the others stay open."""
    flags = ["--shard=1/2", "--config.train.steps=2"]
    assert main(["sweep", f"--config={config}", f"--workdir={tmp_path}/out", *flags]) == 1
    assert "open: 2 of 4 variants" in capsys.readouterr().out
    for rate in ("0", "0.5"):
        run = tmp_path / f"out/runs/dropout={rate},seed=1"
        assert json.loads((run / "results.json").read_text())["step"] == 2
        assert (run / "report.html").is_file()
        assert read_checkpoint(run, "best").config["seed"] == 1
    rows = json.loads((tmp_path / "out/table.json").read_text())["rows"]
    assert sorted((row["label"], row["done"]) for row in rows) == [("dropout=0", 1), ("dropout=0.5", 1)]
    assert "dropout=0,seed=1" in (tmp_path / "out/report.html").read_text()


def _parameters(folder: Path) -> dict[str, list[np.ndarray]]:
    return {run.name: jax.tree.leaves(read_checkpoint(run, "last").variables) for run in (folder / "runs").iterdir()}


def _sweep(config: Path, folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "segjax.cli.main", "sweep", f"--config={config}", f"--workdir={folder}", *flags]


@pytest.mark.slow
def test_killed_and_resumed_is_bitwise_the_undisturbed_sweep(config: Path, tmp_path: Path) -> None:
    whole, killed = (_sweep(config, tmp_path / name, "--jobs=2") for name in ("whole", "killed"))
    subprocess.run(whole, check=True, capture_output=True)
    process = subprocess.Popen(killed, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        if any(committed_steps(run / "checkpoints") for run in (tmp_path / "killed/runs").glob("*")):
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.05)
    assert process.wait() == -signal.SIGKILL
    subprocess.run(killed, check=True, capture_output=True)
    texts = [log.read_text() for log in (tmp_path / "killed/runs").glob("*/log.txt")]
    assert any("resumed from step" in text for text in texts)
    ours, theirs = _parameters(tmp_path / "killed"), _parameters(tmp_path / "whole")
    assert len(theirs) == 4
    for name, leaves in theirs.items():
        for a, b in zip(ours[name], leaves, strict=True):
            np.testing.assert_array_equal(a, b)
    tables = [json.loads((tmp_path / name / "table.json").read_text())["rows"] for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    logs = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("metrics.jsonl")}
    assert "report:" in subprocess.run(killed, check=True, capture_output=True, text=True).stdout
    assert {path: path.stat().st_mtime_ns for path in logs} == logs  # nothing was run again
