"""A run's folder has one owner: a second run is refused in one line before it writes; a dead one is no owner."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import optax
import pytest

from segjax.core import lock
from segjax.core.config import from_dict, to_dict
from segjax.core.errors import BusyError, CheckpointError, StorageError
from segjax.core.lock import OWNER, holder, owned
from segjax.core.schema import DatasetInfo
from segjax.parallel.mesh import make_mesh
from segjax.sweep.queue import Queue, run_queue
from segjax.sweep.variants import Variant
from segjax.training import checkpoint
from segjax.training.checkpoint import Checkpointer, read_checkpoint
from segjax.training.state import init_state, init_variables
from segjax.training.writer import read_metrics
from tests.faults.processes import ROOT, TOY, environment
from tests.training.toy_run import INFO, ToyNet, config

HOLD = """
import sys, time
from segjax.core.lock import owned
with owned(sys.argv[1]):
    print("mine", flush=True)
    time.sleep(60)
"""


def _start(command, **options) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(word) for word in command], env=environment(), cwd=ROOT, **pipes, **options)


def _hold(folder: Path) -> subprocess.Popen:
    process = _start([sys.executable, "-c", HOLD, folder])
    assert process.stdout.readline() == "mine\n"
    return process


def test_two_runs_that_start_at_the_same_moment(tmp_path: Path) -> None:
    go = tmp_path / "go"
    both = [_start([*TOY, tmp_path / "run", "24", "--at", "0", "slow", "--start", go]) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    told = [process.communicate(timeout=240) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], told
    winner, loser = sorted(range(2), key=lambda i: both[i].returncode)
    (line,) = told[loser][1].splitlines()
    assert line.startswith(f"segjax toy: {tmp_path / 'run'} is in use: process {both[winner].pid} on ")
    assert told[loser][0] == ""
    assert told[winner][1] == ""
    steps = [record["step"] for record in read_metrics(tmp_path / "run/metrics.jsonl", "train")]
    assert steps == list(range(1, 25))
    assert not (tmp_path / "run" / OWNER).exists()


def test_one_of_many_gets_a_folder(tmp_path: Path) -> None:
    program = (
        "import sys, time; from segjax.core.lock import owned; sys.stdin.readline()\n"
        "try:\n    with owned(sys.argv[1]): print('mine', flush=True); sys.stdin.readline()\n"
        "except Exception as error: print(error, flush=True)"
    )
    folder = tmp_path / "a" / "b"
    many = [_start([sys.executable, "-c", program, folder], stdin=subprocess.PIPE) for _ in range(6)]
    for process in many:
        process.stdin.write("\n")
        process.stdin.flush()
    lines = [process.stdout.readline() for process in many]
    assert lines.count("mine\n") == 1
    owner = many[lines.index("mine\n")]
    assert sum(f"process {owner.pid} on " in line for line in lines) == 5
    for process in many:
        process.communicate("\n")
    assert not (folder / OWNER).exists()


def test_the_owners_thread_enters_again_and_no_other(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with owned(tmp_path):
                pass
        except BusyError as error:
            refused.append(str(error))

    with owned(tmp_path):
        with owned(tmp_path / "." / ".." / tmp_path.name):
            pass
        assert f"process {os.getpid()} on " in holder(tmp_path)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with owned(tmp_path / "other", active=False):
            assert not (tmp_path / "other").exists()
    assert len(refused) == 1
    assert holder(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_killed_owner_is_none(tmp_path: Path) -> None:
    process = _hold(tmp_path)
    with pytest.raises(BusyError, match=f"is in use: process {process.pid} on .* wait for its end, or give another"):
        with owned(tmp_path):
            pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((tmp_path / OWNER).read_text())["pid"] == process.pid
    with owned(tmp_path):
        assert json.loads((tmp_path / OWNER).read_text())["pid"] == os.getpid()


def _record(tmp_path: Path, **changes) -> Path:
    with owned(tmp_path):
        record = json.loads((tmp_path / OWNER).read_text())
    (tmp_path / OWNER).write_text(json.dumps({**record, **changes}))
    return tmp_path / OWNER


def test_an_owner_on_another_host(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    path = _record(tmp_path, boot="elsewhere", host="gpu03", pid=17)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(BusyError, match=r"process 17 on gpu03 .*; if that process is gone, delete \S+\.owner"):
        with owned(tmp_path):
            pass
    stop.set()
    thread.join()
    capsys.readouterr()
    with owned(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "was last written to by process 17 on gpu03" in capsys.readouterr().err


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch) -> None:
    def none(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr(lock, "SETTLING", 0.01)
    with owned(tmp_path):
        pass
    # The same number, another start: the number was given out again.
    _record(tmp_path, started="1")
    with owned(tmp_path):
        pass
    _record(tmp_path, pid=os.getppid(), started=lock._started(os.getppid()))
    with pytest.raises(BusyError, match=f"process {os.getppid()} on "):
        with owned(tmp_path):
            pass
    # Two that find nothing write their names at once: the one whose name stays has it.
    (tmp_path / OWNER).unlink()
    monkeypatch.setattr(lock, "SETTLING", 1.0)
    threading.Timer(0.3, lambda: _other_signs(tmp_path)).start()
    with pytest.raises(BusyError, match=f"process {os.getppid()} on "):
        with owned(tmp_path):
            pass
    assert (tmp_path / OWNER).exists()


def _other_signs(folder: Path) -> None:
    record = json.loads((folder / OWNER).read_text())
    (folder / OWNER).write_text(json.dumps({**record, "pid": os.getppid(), "started": lock._started(os.getppid())}))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/run cannot be written to: Not a directory; choose another place"):
        with owned(tmp_path / "file" / "run"):
            pass


def test_a_sweep_leaves_open_what_another_run_writes(tmp_path: Path, capsys) -> None:
    queue = Queue(tmp_path, [Variant("a", {}, from_dict({"name": "a"}))])
    program = (
        "import sys; from segjax.core.lock import owned\n"
        "try:\n    with owned(sys.argv[1]): pass\n"
        "except Exception: sys.exit(2)"
    )
    process = _hold(queue.workdir(queue.variants[0]))
    try:
        run_queue(queue, queue.variants, 1, lambda variant, workdir: [sys.executable, "-c", program, str(workdir)])
    finally:
        process.kill()
    assert queue.open(queue.variants[0])
    assert f"a is left open: process {process.pid} on " in capsys.readouterr().out


@pytest.fixture(scope="module")
def state():
    mesh = make_mesh(devices=jax.devices()[:1])
    return init_state(init_variables(ToyNet(), 0, (8, 8, 3)), optax.adamw(1e-3), mesh, ema=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory, state) -> Path:
    """Steps 1 to 3, the first the best."""
    workdir = tmp_path_factory.mktemp("run")
    checkpointer = Checkpointer(workdir, config=to_dict(config()), info=INFO, best="miou", resume=False)
    for step in (1, 2, 3):
        checkpointer.save(step, state, iterator=None, metrics={"miou": 1 / step})
    checkpointer.close()
    return workdir


def test_a_checkpoint_deleted_while_it_is_read(written: Path, tmp_path: Path, monkeypatch, caplog) -> None:
    read = checkpoint._read_meta

    def deleted(folder: Path):
        """As the run does that goes on meanwhile."""
        if folder.name in gone:
            shutil.rmtree(folder, ignore_errors=True)
        return read(folder)

    monkeypatch.setattr(checkpoint, "_read_meta", deleted)
    for which, gone, found in (("last", {"3"}, 2), ("best", {"1"}, 2), ("3", {"3"}, None), ("last", set("123"), None)):
        workdir = tmp_path / f"{which}{len(gone)}"
        shutil.copytree(written, workdir)
        with owned(workdir):
            if found is None:
                with pytest.raises(CheckpointError, match=r"no whole checkpoint of step 3; steps there|holds no check"):
                    read_checkpoint(workdir, which)
            else:
                assert read_checkpoint(workdir, which).step == found
    assert caplog.records == []


def test_a_checkpoint_half_deleted_is_not_called_damaged(written: Path, tmp_path: Path, caplog) -> None:
    shutil.copytree(written, tmp_path / "run")
    half = tmp_path / "run/checkpoints/3"
    shutil.rmtree(half / "model")
    with owned(tmp_path / "run"):
        threading.Timer(0.3, shutil.rmtree, (half,)).start()
        assert read_checkpoint(tmp_path / "run", "last").step == 2
    assert caplog.records == []


def test_a_data_set_of_other_classes(written: Path) -> None:
    info = DatasetInfo("toy", ("left", "middle"), INFO.palette)
    message = (
        r"other classes: class 1 is 'right' there and 'middle' in the data set 'toy'; give the classes in the order"
    )
    with pytest.raises(CheckpointError, match=message):
        Checkpointer(written, config=to_dict(config()), info=info, best="miou", resume=True)


def test_a_frozen_owner_still_is_one(tmp_path: Path) -> None:
    process = _hold(tmp_path)
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    try:
        with pytest.raises(BusyError):
            with owned(tmp_path):
                pass
    finally:
        process.kill()
