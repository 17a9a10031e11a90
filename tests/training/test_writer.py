from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segjax.core.errors import ConfigError
from segjax.training.writer import Console, Writer, read_metrics, train_line


def _steps(path: Path) -> list[int]:
    return [record["step"] for record in read_metrics(path / "metrics.jsonl")]


def test_resume_drops_what_came_after(tmp_path: Path) -> None:
    writer = Writer(tmp_path, tensorboard=False)
    for step in (10, 20, 30):
        writer.write(step, "train", {"loss": 1 / step})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "kind": "tra')  # a kill in the middle of a line
    writer = Writer(tmp_path, tensorboard=False, resume_step=20)
    writer.write(21, "train", {"loss": 0.5})
    writer.close()
    assert _steps(tmp_path) == [10, 20, 21]
    Writer(tmp_path, tensorboard=False).close()
    assert _steps(tmp_path) == []


def test_records_are_json_whatever_the_numbers(tmp_path: Path) -> None:
    writer = Writer(tmp_path, tensorboard=False)
    writer.write(
        1, "eval", {"miou": np.float32(0.5), "per_class_iou": [0.1, float("nan")], "matrix": np.eye(2, dtype=int)}
    )
    writer.write(2, "train", {"loss": float("inf")})
    writer.close()

    def strict(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    first, second = (
        json.loads(line, parse_constant=strict) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    )
    assert first["miou"] == 0.5
    assert first["per_class_iou"] == [0.1, None]
    assert first["matrix"] == [[1, 0], [0, 1]]
    assert second["loss"] is None
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl", "eval")] == [1]


def test_tensorboard_events_hold_the_scalars(tmp_path: Path) -> None:
    from tensorboardX.event_file_writer import EventsWriter  # noqa: F401  (fails loudly where tensorboardX is broken)

    writer = Writer(tmp_path)
    writer.write(3, "train", {"loss": 0.25, "names": ["a"]})
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    data = events.read_bytes()
    assert b"train/loss" in data
    assert b"train/names" not in data


def test_events_need_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="not installed, so that nothing can import it")
    program = (
        "import sys; from segjax.training.writer import Writer; Writer(sys.argv[1]).close(); "
        "print('torch' in sys.modules); import torch"
    )
    told = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"


def test_only_the_first_process_writes(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "run", active=False)
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    assert not (tmp_path / "run").exists()


def test_wandb_that_is_absent_is_named_before_anything_is_written(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ConfigError, match=r"config\.log\.wandb: wandb is not installed; `pip install 'segjax\[wandb\]'`"
    ):
        Writer(tmp_path, wandb="project")
    assert list(tmp_path.iterdir()) == []


def test_console_is_plain_lines_in_a_file_and_a_bar_in_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = io.StringIO()
    console = Console(10, stream=plain)
    console.advance(1)
    console.line("step 1")
    console.close()
    assert plain.getvalue() == "step 1\n"
    silent = io.StringIO()
    Console(10, stream=silent, active=False).line("step 1")
    assert silent.getvalue() == ""
    terminal = Terminal()
    console = Console(10, start=4, stream=terminal)
    console.advance(5)
    console.line("step 5 [brackets stay]")
    console.close()
    assert "step 5 [brackets stay]" in terminal.getvalue()
    assert "5/10" in terminal.getvalue()


def test_line() -> None:
    values = {
        "loss": 0.81234,
        "learning_rate": 9.1e-4,
        "images_per_second": 142.31,
        "mfu": 0.412,
        "data_wait": 0.03,
        "device_memory": 1.2e9,
        "host_memory": 3.1e9,
    }
    assert train_line(120, 2000, values) == (
        "step  120/2000  loss 0.8123  lr 9.10e-04  142.3 images/s  MFU 41.2%  data wait 3%  device 1.20 GB  "
        "host 3.10 GB"
    )
