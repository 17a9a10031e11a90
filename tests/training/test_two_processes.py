from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform

from segjax.training.checkpoint import read_checkpoint
from segjax.training.loop import train
from segjax.training.writer import read_metrics


def test_two_processes_killed_and_resumed_learn_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = str(Path(__file__).parent / "two_processes.py")
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(index), port, str(tmp_path / "two")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    train(
        config(optim={"name": "sgd", "learning_rate": 0.1}),
        model=ToyNet(),
        task=ToyTask(),
        transform=transform,
        batches=Stream(),
        info=INFO,
        steps=8,
        workdir=tmp_path / "one",
        evaluate=lambda state: {"miou": 0.5},
    )
    one, two = (read_checkpoint(tmp_path / name, "last") for name in ("one", "two"))
    assert one.step == two.step == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), one.variables, two.variables)
    assert [record["step"] for record in read_metrics(tmp_path / "two/metrics.jsonl", "train")] == [3, 4, 6, 8]
    (meta,) = (tmp_path / "two/checkpoints/8/meta").glob("metadata")
    states = [record["json"] for record in json.loads(meta.read_text())["iterators"]]
    assert states == [{"position": 8, "process": 0}, {"position": 8, "process": 1}]
