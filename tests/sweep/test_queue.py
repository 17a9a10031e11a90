"""The queue with processes that train nothing: who takes what, what a kill leaves, what is not run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from segjax.core.config import from_dict, load_config
from segjax.core.errors import ConfigError
from segjax.sweep.queue import Queue, run_queue, shard, train_command
from segjax.sweep.variants import Variant, read_variants

RUN = """
import json, os, sys, time
workdir, seconds, status = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
with open(workdir + "/starts.txt", "a") as file:
    file.write(str(os.getpid()) + "\\n")
time.sleep(seconds)
if status == 0:
    with open(workdir + "/results.json", "w") as file:
        json.dump({"step": 1, "split": "val", "metrics": {"miou": 0.5}}, file)
else:
    print("segjax train: no such thing")
sys.exit(status)
"""


def _variants(count: int) -> list[Variant]:
    return [Variant(f"v{i}", {"seed": i}, from_dict({"seed": i, "name": f"v{i}"})) for i in range(count)]


def _command(seconds: float = 0.0, status: int = 0):
    return lambda variant, workdir: [sys.executable, "-c", RUN, str(workdir), str(seconds), str(status)]


def _starts(queue: Queue) -> list[int]:
    files = (queue.workdir(variant) / "starts.txt" for variant in queue.variants)
    return [len(file.read_text().splitlines()) if file.is_file() else 0 for file in files]


def test_each_is_run_once_and_never_again(tmp_path: Path) -> None:
    queue = Queue(tmp_path, _variants(4))
    assert run_queue(queue, queue.variants, 3, _command()) is None
    assert _starts(queue) == [1] * 4
    again = Queue(tmp_path, _variants(5))
    run_queue(again, again.variants, 2, _command())
    assert _starts(again) == [1] * 5


def test_two_workers_never_take_the_same(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.sweep.test_queue import Queue, _command, _variants, run_queue
        queue = Queue(Path(sys.argv[1]), _variants(6))
        run_queue(queue, queue.variants, 2, _command(0.3))
    """)
    workers = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert _starts(Queue(tmp_path, _variants(6))) == [1] * 6


def test_killed_worker_frees_its_variant_when_its_child_ends(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from tests.sweep.test_queue import Queue, _command, _variants, run_queue
        queue = Queue(Path(sys.argv[1]), _variants(1))
        run_queue(queue, queue.variants, 1, _command(600))
    """)
    queue = Queue(tmp_path, _variants(1))
    started = queue.workdir(queue.variants[0]) / "starts.txt"
    worker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    while not (started.is_file() and started.read_text().endswith("\n")):
        assert worker.poll() is None
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    with queue.take(queue.variants) as locks:
        assert locks is None  # its child lives on, and holds the variant
    os.kill(int(started.read_text()), signal.SIGKILL)
    for _ in range(200):
        with queue.take(queue.variants) as locks:
            if locks is not None:
                break
        time.sleep(0.05)
    assert locks is not None


def test_failures_are_kept_and_forgiven(tmp_path: Path, capsys) -> None:
    queue = Queue(tmp_path, _variants(1))
    run_queue(queue, queue.variants, 1, _command(status=2))
    assert "v0 failed: segjax train: no such thing" in capsys.readouterr().out
    run_queue(queue, queue.variants, 1, _command())
    assert _starts(queue) == [1]
    queue.forgive()
    run_queue(queue, queue.variants, 1, _command())
    assert _starts(queue) == [2]


def test_a_crash_is_no_failure_of_the_variant(tmp_path: Path, capsys) -> None:
    queue = Queue(tmp_path, _variants(1))
    run_queue(queue, queue.variants, 1, _command(status=3))
    assert "v0 ended with status 3; see" in capsys.readouterr().out
    assert queue.open(queue.variants[0])


def test_sigterm_reaches_the_children(tmp_path: Path) -> None:
    queue = Queue(tmp_path, _variants(2))
    timer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(1.5); os.kill({os.getpid()}, 15)"])
    began = time.monotonic()
    assert run_queue(queue, queue.variants, 1, _command(300)) == "SIGTERM"
    timer.wait()
    assert time.monotonic() - began < 250
    assert sum(_starts(queue)) <= 1
    assert all(map(queue.open, queue.variants))


def test_devices_are_dealt_to_the_slots(tmp_path: Path, monkeypatch) -> None:
    from segjax.sweep.queue import _environment

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [_environment(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["4,6", "5,7"]
    assert _environment(0, 1)["CUDA_VISIBLE_DEVICES"] == "4,5,6,7"


def test_another_sweep_in_the_folder_is_refused(tmp_path: Path) -> None:
    Queue(tmp_path, _variants(1))
    other = Variant("v0", {"seed": 0}, from_dict({"seed": 0, "name": "v0", "train": {"batch_size": 4}}))
    with pytest.raises(ConfigError, match=r"'v0' has config\.train\.batch_size=8, here it is 4"):
        Queue(tmp_path, [other])
    assert json.loads((tmp_path / "sweep.json").read_text())["v0"]["config"]["train"]["batch_size"] == 8
    Queue(tmp_path, [Variant("v0", {}, from_dict({"name": "v0", "data": {"threads": 9}}))])


def test_shard() -> None:
    parts = [shard(range(7), f"{i}/3") for i in range(3)]
    assert sorted(item for part in parts for item in part) == list(range(7))
    assert shard(range(3), None) == [0, 1, 2]
    for text in ("3/3", "1", "a/b", "-1/2"):
        with pytest.raises(ConfigError, match="--shard"):
            shard(range(3), text)


def test_the_command_gives_the_variants_own_config(tmp_path: Path) -> None:
    path = tmp_path / "ablation.py"
    path.write_text(
        "def get_config():\n    return dict(name='x')\n"
        "def sweep(config):\n"
        "    yield {'model.options': {'features': [8, 16], 'norm': '1'}, 'augment.scale': (0.5, 2.0),\n"
        "           'loss.class_weights': (1, 2.5), 'train.ema': None, 'augment.flip': False, 'eval.split': 'None'}\n"
        "    yield {'loss.class_weights': 'enet_log', 'model.options.encoder': 'resnet50'}\n"
    )
    texts = {"train.steps": "5"}
    for variant in read_variants(str(path), texts):
        flags = train_command(str(path), texts)(variant, tmp_path / "run")
        assert "--resume" in flags
        given = dict(flag.removeprefix("--config.").split("=", 1) for flag in flags if flag.startswith("--config."))
        assert load_config(str(path), given) == variant.config


@pytest.mark.parametrize("text", ["{", '{"v0": {}}', "5"])
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ConfigError, match=r"sweep\.json is damaged"):
        Queue(tmp_path, _variants(1))
