"""Acceptance of several processes: train, lose one, go on with another number of processes and devices.

Real processes over localhost, started by launch/local.py, with gloo collectives between them. See also
tests/training/test_two_processes.py (the trainer alone) and tests/data/test_pipeline.py (the data order).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segjax.cli.main import main
from segjax.core.errors import EXIT_RESUME
from segjax.training.checkpoint import read_checkpoint
from segjax.training.loop import train
from segjax.training.writer import read_metrics

ROOT = Path(__file__).parents[2]
TRAIN_VERB = ("-m", "segjax.cli.main", "train")
STEPS = 8
OPTIM = {"name": "sgd", "learning_rate": 0.1}
TRAIN = {"log_every": 1, "eval_every": STEPS}
CHECKPOINT = {"every": 2}
CONFIG = f"""
def get_config():
    return dict(
        name="tiny",
        model=dict(name="unet/test"),
        data=dict(name="scenes", crop_size=(32, 32), options=dict(count=12, eval_count=4, height=40, width=48)),
        augment=dict(scale=(0.7, 1.3), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
        optim=dict(name="sgd", learning_rate=0.05),
        train=dict(steps={STEPS}, batch_size=8, log_every=1, eval_every={STEPS}),
        eval=dict(batch_size=8, boundary=False, samples=0),
        checkpoint=dict(every=2),
        parallel=dict(heartbeat=6.0, join_timeout=120.0),
        log=dict(tensorboard=False),
    )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGJAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield f"--config={path}"


@pytest.fixture(scope="module")
def undisturbed(config: str, tmp_path_factory) -> Path:
    """One process, one device, never stopped."""
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert main(["train", config, f"--workdir={workdir}"]) == 0
    return workdir


def _launch(processes: int, devices: int, *command: str) -> subprocess.Popen:
    launcher = [sys.executable, str(ROOT / "launch/local.py"), f"--processes={processes}", f"--cpu-devices={devices}"]
    return subprocess.Popen(
        [*launcher, "--", sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def _children(process: subprocess.Popen) -> list[int]:
    """Process ids of the launched processes, in their order."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(map(int, found))


def _train_and_lose(process: subprocess.Popen, victim: int) -> tuple[list[str], float]:
    """Kills the victim in step 5; returns all lines, and the seconds in which the rest ended."""
    lines, killed = [], 0.0
    for line in process.stdout:
        lines.append(line.rstrip())
        if re.search(rf"step +4/{STEPS} ", line):
            os.kill(_children(process)[victim], signal.SIGKILL)
            killed = time.monotonic()
    process.wait()
    assert killed, lines
    return lines, time.monotonic() - killed


def _compare(workdir: Path, undisturbed: Path) -> None:
    """Loss and learning rate of each step, and the parameters at the end."""
    ours, theirs = (read_metrics(path / "metrics.jsonl", "train") for path in (workdir, undisturbed))
    assert [record["step"] for record in ours] == list(range(1, STEPS + 1))
    for key in ("loss", "learning_rate", "grad_norm"):
        np.testing.assert_allclose([r[key] for r in ours], [r[key] for r in theirs], rtol=2e-4, err_msg=key)
    ends = [read_checkpoint(path, "last") for path in (workdir, undisturbed)]
    assert [end.step for end in ends] == [STEPS, STEPS]
    for name, ours in ends[0].variables["params"].items():
        for leaf, theirs in zip(_leaves(ours), _leaves(ends[1].variables["params"][name]), strict=True):
            np.testing.assert_allclose(leaf, theirs, atol=1e-4)


def _leaves(tree) -> list[np.ndarray]:
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]


def _lost(lines: list[str], survivor: int, victim: int) -> None:
    said = [line for line in lines if line.startswith(f"[{survivor}] segjax: process {victim} (")]
    assert len(said) == 1, lines
    assert re.search(r"stopped answering; it was last heard of \d+ s ago, at step \d+ \(", said[0]), said
    assert "--resume" in said[0]
    assert f"launch/local.py: process {victim} was killed by SIGKILL" in lines


def test_a_lost_process_stops_the_other_and_one_process_goes_on(tmp_path: Path) -> None:
    """The trainer with a toy network, so that it takes seconds; the command line's run is below."""
    sys.path.insert(0, str(ROOT / "tests/training"))
    from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform

    with _launch(2, 1, str(ROOT / "tests/parallel/toy_process.py"), str(tmp_path / "run"), str(STEPS)) as process:
        lines, seconds = _train_and_lose(process, victim=1)
    assert process.returncode == EXIT_RESUME, lines
    assert seconds < 60
    _lost(lines, survivor=0, victim=1)
    for name in ("run", "undisturbed"):
        train(
            config(optim=OPTIM, train=TRAIN, checkpoint=CHECKPOINT),
            model=ToyNet(),
            task=ToyTask(),
            transform=transform,
            batches=Stream(),
            info=INFO,
            steps=STEPS,
            workdir=tmp_path / name,
            resume=name == "run",
        )
    _compare(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])  # process 0 keeps jax's coordination service
def test_two_processes_of_four_devices_then_one_of_two(
    victim: int, config: str, undisturbed: Path, tmp_path: Path
) -> None:
    run = f"--workdir={tmp_path}/run"
    with _launch(2, 4, *TRAIN_VERB, config, run) as process:
        lines, seconds = _train_and_lose(process, victim)
    assert process.returncode == EXIT_RESUME, lines
    assert seconds < 60
    _lost(lines, survivor=1 - victim, victim=victim)
    with _launch(1, 2, *TRAIN_VERB, config, run, "--resume") as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    assert "resumed from step" in output
    _compare(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_evaluation_and_prediction_share_the_images_out(undisturbed: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{index}.png")
    scores, labels = [], []
    for processes, devices in ((1, 1), (2, 2)):
        output = tmp_path / str(processes)
        words = ["-m", "segjax.cli.main", "evaluate", f"--checkpoint={undisturbed}", f"--output={output}.json"]
        with _launch(processes, devices, *words) as process:
            text = process.stdout.read()
        assert process.returncode == 0, text
        scores.append(json.loads(Path(f"{output}.json").read_text()))
        words = ["-m", "segjax.cli.main", "predict", f"--checkpoint={undisturbed}", f"--input={photos}"]
        with _launch(processes, devices, *words, f"--output={output}") as process:
            text = process.stdout.read()
        assert process.returncode == 0, text
        labels.append({path.name: np.asarray(Image.open(path)) for path in output.glob("*.png")})
    assert scores[0]["images"] == scores[1]["images"] == 4
    np.testing.assert_allclose(scores[0]["metrics"]["miou"], scores[1]["metrics"]["miou"], rtol=1e-6)
    assert labels[0].keys() == labels[1].keys() == {"0.png", "1.png", "2.png"}
    for name, expected in labels[0].items():
        assert np.mean(labels[1][name] != expected) < 1e-3  # a tie may fall the other way in another batch
