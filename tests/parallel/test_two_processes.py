"""Acceptance of several processes: train, lose one, go on with another number of processes and devices.

Real processes over localhost, started by launch/local.py, with gloo collectives between them. See also
tests/training/test_two_processes.py (the trainer alone) and tests/data/test_pipeline.py (the data order).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
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
TOY = str(ROOT / "tests/parallel/toy_process.py")
TRAIN_VERB = ("-m", "segjax.cli.main", "train")
STEPS = 8
TOY_CONFIG = {
    "optim": {"name": "sgd", "learning_rate": 0.1},
    "schedule": {"name": "constant"},
    "train": {"log_every": 1, "eval_every": STEPS},
    "checkpoint": {"every": 2},
}
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


def _launch(processes: int, devices: int, *command: str, options: Sequence[str] = ()) -> subprocess.Popen:
    launcher = [sys.executable, str(ROOT / "launch/local.py"), f"--processes={processes}", f"--cpu-devices={devices}"]
    launcher += options
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


def _until_step(process: subprocess.Popen, step: int) -> list[str]:
    """The lines until process 0 has reported the step."""
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if re.search(rf"step +{step}/", line):
            return lines
    raise AssertionError(lines)


def _train_and_lose(process: subprocess.Popen, victim: int) -> tuple[list[str], float]:
    """Kills the victim after step 4; returns all lines, and the seconds in which the rest ended."""
    lines = _until_step(process, 4)
    os.kill(_children(process)[victim], signal.SIGKILL)
    killed = time.monotonic()
    lines += [line.rstrip() for line in process.stdout]
    process.wait()
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

    with _launch(2, 1, TOY, str(tmp_path / "run"), str(STEPS)) as process:
        lines, seconds = _train_and_lose(process, victim=1)
    assert process.returncode == EXIT_RESUME, lines
    assert seconds < 60
    _lost(lines, survivor=0, victim=1)
    for name in ("run", "undisturbed"):
        train(
            config(**TOY_CONFIG),
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
def test_split_parameters_move_to_other_numbers_of_processes_and_devices(tmp_path: Path) -> None:
    """A kernel of 110592 numbers, split over all devices of 2 x 2, then 1 x 2, then 2 x 1."""
    sys.path.insert(0, str(ROOT / "tests/training"))
    from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform

    run = str(tmp_path / "run")
    for processes, devices, steps, part in ((2, 2, 2, 1024), (1, 2, 4, 2048), (2, 1, STEPS, 2048)):
        with _launch(processes, devices, TOY, run, str(steps), "wide", "--resume") as process:
            output = process.stdout.read()
        assert process.returncode == 0, output
        assert f"kernel (3, 3, 3, 4096) a device (3, 3, 3, {part})" in output
        assert ("resumed from step" in output) == (steps > 2)
    train(
        config(**TOY_CONFIG),
        model=ToyNet(features=4096),
        task=ToyTask(),
        transform=transform,
        batches=Stream(),
        info=INFO,
        steps=STEPS,
        workdir=tmp_path / "undisturbed",
    )
    _compare(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_frozen_process_is_named_and_ended(tmp_path: Path) -> None:
    with _launch(2, 1, TOY, str(tmp_path / "run"), "4000", options=["--grace=20"]) as process:
        lines = _until_step(process, 4)
        frozen = _children(process)[1]
        os.kill(frozen, signal.SIGSTOP)
        lines += [line.rstrip() for line in process.stdout]
    assert process.returncode == EXIT_RESUME, lines
    said = [line for line in lines if line.startswith("[0] segjax: process 1 (")]
    assert len(said) == 1, lines
    assert "stopped answering; it was last heard of" in said[0]
    assert not Path(f"/proc/{frozen}").exists()


@pytest.mark.slow
def test_a_process_that_fails_is_quoted_by_the_other(tmp_path: Path) -> None:
    with _launch(2, 1, TOY, str(tmp_path / "run"), "40", "fail") as process:
        lines = process.stdout.read().splitlines()
    assert process.returncode == 2, lines
    host = socket.gethostname()
    for index in (0, 1):
        assert f"[{index}] segjax: process 1 ({host}) failed at step 5: a.png: truncated" in lines
    assert not [line for line in lines if "Traceback" in line]


@pytest.mark.slow
def test_preemption_saves_in_all_processes_and_the_launcher_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with _launch(2, 1, TOY, str(run), "400", options=["--restarts=1"]) as process:
        lines = _until_step(process, 4)
        os.kill(_children(process)[1], signal.SIGTERM)  # what one host is told, all hear of
        lines += [line.rstrip() for line in process.stdout]
    assert process.returncode == 0, lines
    (saved,) = [line for line in lines if "SIGTERM: saved step" in line]
    step = int(re.search(r"saved step (\d+) of 400", saved)[1])
    assert "launch/local.py: ended with status 75; restart 1 of 1 with --resume" in lines
    assert f"[0] resumed from step {step} of {run}" in lines
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl", "train")] == list(range(1, 401))


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


def test_a_host_that_never_joins_is_one_line(config: str, tmp_path: Path, capfd) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = [f"--coordinator=127.0.0.1:{probe.getsockname()[1]}", "--num-processes=3", "--process-id=0"]
    words = [config, f"--workdir={tmp_path}/run", "--config.parallel.join_timeout=1.5"]
    assert main(["train", *words, *place]) == 2
    host = socket.gethostname()
    assert capfd.readouterr().err.splitlines() == [
        f"segjax train: 1 of 3 processes joined within 1.5 s: 0 ({host}); missing: 1, 2. Look at those hosts' logs, or "
        "raise config.parallel.join_timeout."
    ]
    assert main(["train", *words, *place[:2]]) == 2
    assert "JAX_PROCESS_ID not: give all three, or none." in capfd.readouterr().err
