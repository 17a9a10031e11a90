"""A run killed without warning and resumed ends bitwise where an undisturbed one ends; see also tests/training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from segjax.training.checkpoint import read_checkpoint

CONFIG = """
def get_config():
    return dict(
        name="tiny",
        model=dict(name="unet/test"),
        data=dict(name="scenes", crop_size=(32, 32), options=dict(count=12, eval_count=2, height=40, width=48)),
        augment=dict(scale=(0.7, 1.3), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1),
        loss=dict(class_weights="enet_log"),
        train=dict(steps=14, batch_size=4, accumulate=2, ema=0.9, log_every=1, eval_every=7),
        eval=dict(batch_size=2, boundary=False),
        checkpoint=dict(every=3),
        log=dict(tensorboard=False),
    )
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    config = tmp_path_factory.mktemp("config") / "tiny.py"
    config.write_text(CONFIG)
    return [sys.executable, "-m", "segjax.cli.main", "train", f"--config={config}"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    return {**os.environ, "SEGJAX_CACHE": str(tmp_path_factory.mktemp("cache"))}


def test_killed_and_resumed_is_bitwise_the_undisturbed_run(command, environment, tmp_path: Path):
    subprocess.run([*command, f"--workdir={tmp_path}/whole"], env=environment, check=True, capture_output=True)

    killed = [*command, f"--workdir={tmp_path}/killed"]
    with subprocess.Popen(killed, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.split()[:2] == ["step", "8/14"]:  # in the second epoch, between two checkpoints
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL

    resumed = subprocess.run([*killed, "--resume"], env=environment, check=True, capture_output=True, text=True)
    assert "resumed from step" in resumed.stdout
    ends = [read_checkpoint(tmp_path / name, "last") for name in ("whole", "killed")]
    assert [end.step for end in ends] == [14, 14]
    first, second = (jax.tree.leaves(end.variables) for end in ends)
    assert len(first) > 10
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
