from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from toy_run import INFO, Stream, ToyNet, ToyTask, bitwise_equal, config, transform

from segjax.core.errors import CheckpointError, ConfigError, SegjaxError
from segjax.training.checkpoint import committed_steps, read_checkpoint
from segjax.training.loop import steps_of, train
from segjax.training.writer import read_metrics


def _train(workdir: Path, *, batches=None, resume=False, steps=8, evaluate=None, net=None, settings=None):
    return train(
        settings or config(train={"ema": 0.9}),
        model=net or ToyNet(dropout=0.3),
        task=ToyTask(),
        transform=transform,
        batches=batches or Stream(),
        info=INFO,
        steps=steps,
        workdir=workdir,
        evaluate=evaluate or (lambda state: {"miou": float(state.step) / 100, "per_class_iou": [0.1, 0.2]}),
        resume=resume,
    )


class _Killed(Exception):
    pass


class _KilledAt(Stream):
    """Fails when asked for the batch of one step, as if the process had died there."""

    def __init__(self, step: int):
        super().__init__()
        self.step = step

    def __next__(self):
        if self.position == self.step:
            raise _Killed
        return super().__next__()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return workdir, _train(workdir)


def test_resumed_run_is_bitwise_the_undisturbed_one(undisturbed, tmp_path: Path) -> None:
    with pytest.raises(_Killed):
        _train(tmp_path, batches=_KilledAt(6))
    resumed = _train(tmp_path, resume=True)
    assert resumed.step == 8
    assert bitwise_equal(resumed.state, undisturbed[1].state)
    # Train records carry rates, which differ; what was learnt does not, and no step stands twice.
    for kind, keys in (("train", ("step", "loss", "grad_norm")), ("eval", ("step", "miou"))):
        ours, theirs = (read_metrics(folder / "metrics.jsonl", kind) for folder in (tmp_path, undisturbed[0]))
        assert [[r[k] for k in keys] for r in ours] == [[r[k] for k in keys] for r in theirs]


def test_a_checkpoint_is_the_state_of_its_step(undisturbed, tmp_path: Path) -> None:
    """The save of step 4 runs while steps 5 to 8 overwrite the donated buffers."""
    short = _train(tmp_path, settings=config(train={"ema": 0.9, "steps": 8, "eval_every": 4}), batches=Stream())
    saved = read_checkpoint(undisturbed[0], 4)
    with pytest.raises(_Killed):
        _train(tmp_path / "four", batches=_KilledAt(4))
    assert bitwise_equal(saved.variables, read_checkpoint(tmp_path / "four", 4).variables)
    assert not bitwise_equal(saved.variables, short.state.eval_variables)


def test_records_and_lines(undisturbed) -> None:
    records = read_metrics(undisturbed[0] / "metrics.jsonl", "train")
    assert [record["step"] for record in records] == [3, 4, 6, 8]
    wanted = {
        "loss",
        "learning_rate",
        "images_per_second",
        "mfu",
        "data_wait",
        "host_memory",
        "grad_norm",
        "param_norm",
    }
    for record in records:
        assert wanted <= record.keys()
        assert 0 <= record["data_wait"] <= 1
    assert records[-1]["loss"] < records[0]["loss"]
    assert undisturbed[1].metrics["miou"] == pytest.approx(0.08)
    assert committed_steps(undisturbed[0] / "checkpoints") == [4, 8]


def test_plain_lines_name_what_matters(tmp_path: Path, capsys) -> None:
    _train(tmp_path, steps=3)
    out = capsys.readouterr().out
    for part in (
        "step 3/3",
        "loss 0.",
        "lr 1.",
        "images/s",
        "MFU",
        "data wait",
        "GB",
        "evaluation at step 3: miou 0.0300",
    ):
        assert part in out


def test_a_finished_run_resumed_does_nothing(undisturbed) -> None:
    again = _train(undisturbed[0], resume=True, batches=_KilledAt(8))
    assert again.step == 8
    assert again.metrics == {"miou": pytest.approx(0.08)}
    assert bitwise_equal(again.state, undisturbed[1].state)


def test_resume_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    assert _train(tmp_path, resume=True, steps=1).step == 1
    with pytest.raises(CheckpointError, match="--resume"):
        _train(tmp_path, steps=1)


def test_nan_names_the_step_and_leaves_the_last_good_checkpoint(tmp_path: Path, capsys) -> None:
    class Poisoned(Stream):
        def __next__(self):
            batch = super().__next__()
            return batch | {"image": batch["image"].astype(np.float32) * (np.nan if self.position == 6 else 1)}

    with pytest.raises(SegjaxError, match=r"non-finite at step 6 \(loss nan, \d of the last \d steps\); lower config"):
        _train(tmp_path, batches=Poisoned())
    assert committed_steps(tmp_path / "checkpoints") == [4]
    going_on = config(train={"ema": 0.9, "stop_on_nan": False})
    _train(tmp_path / "on", batches=Poisoned(), settings=going_on)
    assert "warning: the loss or its gradient became non-finite at step 6" in capsys.readouterr().out
    assert read_metrics(tmp_path / "on/metrics.jsonl", "train")[-1]["nonfinite_steps"] == 3


def test_sigterm_saves_and_ends(undisturbed, tmp_path: Path, capsys) -> None:
    class Taken(Stream):
        def __next__(self):
            if self.position == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__next__()

    handler = signal.getsignal(signal.SIGTERM)
    ended = _train(tmp_path, batches=Taken())
    assert (ended.step, ended.interrupted) == (5, "SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert f"SIGTERM: saved step 5 of 8 in {tmp_path}; go on with --resume." in capsys.readouterr().out
    assert bitwise_equal(_train(tmp_path, resume=True).state, undisturbed[1].state)


def test_steps_of() -> None:
    assert steps_of(config(train={"steps": 7}), 100) == 7
    assert steps_of(config(train={"steps": None, "epochs": 2.5, "batch_size": 4}), 10) == 7
    with pytest.raises(ConfigError, match=r"set it, or config\.train\.epochs"):
        steps_of(config(train={"steps": None}), 10)


def test_sigkill_in_mid_run_and_resume(undisturbed, tmp_path: Path) -> None:
    """A process of its own, killed without warning while a checkpoint may be half written."""
    program = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_loop import Stream, _train
        class Killed(Stream):
            def __next__(self):
                if self.position == 7:
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().__next__()
        _train(sys.argv[1], batches=Killed())
    """)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert bitwise_equal(_train(tmp_path, resume=True).state, undisturbed[1].state)
