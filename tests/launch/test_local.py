"""launch/local.py with small processes in place of a run; tests/parallel/test_two_processes.py has real ones."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.launch.launchers import BARE, FOLDER, launch

INDEX = "import os, sys, time; index = int(os.environ['JAX_PROCESS_ID'])\n"


def _local(*words: str, code: str) -> subprocess.CompletedProcess:
    return launch("local", *words, "--", *BARE, "-c", INDEX + code)


def test_each_process_knows_its_place_and_its_lines_carry_it():
    names = "JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES JAX_PROCESS_ID JAX_PLATFORMS JAX_NUM_CPU_DEVICES"
    code = f"print(*[os.environ[name] for name in {names.split()}]); print('warning', file=sys.stderr)"
    ended = _local("--processes=2", "--cpu-devices=4", "--port=45871", code=code)
    assert ended.returncode == 0
    assert sorted(ended.stdout.splitlines()) == [
        "[0] 127.0.0.1:45871 2 0 cpu 4",
        "[0] warning",
        "[1] 127.0.0.1:45871 2 1 cpu 4",
        "[1] warning",
    ]


def test_one_process_prints_plain_lines():
    assert _local(code="print('hello')").stdout == "hello\n"


def test_dry_run_prints_the_commands():
    words = ["--processes=2", "--gpus=0,1,2,3", "--port=45871", "--dry-run", "--", "segjax", "train", "--config=a b.py"]
    common = "env SEGJAX_LAUNCHER=launch/local.py JAX_COORDINATOR_ADDRESS=127.0.0.1:45871 JAX_NUM_PROCESSES=2"
    assert launch("local", *words).stdout.splitlines() == [
        f"{common} JAX_PROCESS_ID=0 CUDA_VISIBLE_DEVICES=0,1 segjax train '--config=a b.py'",
        f"{common} JAX_PROCESS_ID=1 CUDA_VISIBLE_DEVICES=2,3 segjax train '--config=a b.py'",
    ]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--processes=2", "--gpus=0,1,2"], "--gpus: 3 GPUs do not divide among 2 processes."),
        (["--processes=0"], "--processes: 0 is below 1."),
    ],
)
def test_impossible_shares(words, error):
    ended = launch("local", *words, "--", "true")
    assert (ended.returncode, ended.stderr) == (1, error + "\n")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("sys.exit(3 if index else 0)", 3, "process 1 ended with status 3"),
        ("sys.exit((75, 2)[index])", 2, "process 1 ended with status 2"),  # the error, not the other's answer to it
        ("os.kill(os.getpid(), 9) if index else time.sleep(0.5)", 137, "process 1 was killed by SIGKILL"),
        ("os.kill(os.getpid(), 9) if index else (time.sleep(0.5), sys.exit(75))", 75, "process 0 ended with status 75"),
    ],
)
def test_the_runs_status(code, status, said):
    ended = _local("--processes=2", "--grace=20", code=code)
    assert ended.returncode == status
    assert f"launch/local.py: {said}" in ended.stderr.splitlines()


def test_who_outlives_a_lost_process_is_ended():
    ended = _local("--processes=3", "--grace=0.5", code="sys.exit(1) if index == 1 else time.sleep(100)")
    assert ended.returncode == 1
    assert "process 0, 2 did not end within 0.5 s; ending it" in ended.stderr
    assert "process 2 was killed by SIGTERM" in ended.stderr


def test_restarts_go_on_with_resume():
    code = "print(sys.argv[1:]); sys.exit(0 if '--resume' in sys.argv else 75)"
    ended = _local("--processes=2", "--restarts=2", code=code)
    assert ended.returncode == 0
    assert sorted(ended.stdout.splitlines()) == ["[0] ['--resume']", "[0] []", "[1] ['--resume']", "[1] []"]
    assert "ended with status 75; restart 1 of 2 with --resume" in ended.stderr
    always = _local("--restarts=2", code="print(sys.argv[1:]); sys.exit(75)")
    assert (always.returncode, always.stdout) == (75, "[]\n['--resume']\n['--resume']\n")
    assert _local("--restarts=2", code="print(); sys.exit(2)").stdout == "\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_ask_the_processes_to_end_and_no_restart_follows(number):
    code = INDEX + (
        "import signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'saved\\n'), sys.exit(75)))\n"
        "print('ready', flush=True); time.sleep(100)"
    )
    command = [sys.executable, str(FOLDER / "local.py"), "--processes=2", "--restarts=3", "--", *BARE, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert sorted(process.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        process.send_signal(number)
        assert sorted(process.stdout.read().splitlines()) == ["[0] saved", "[1] saved"]
        assert "restart" not in process.stderr.read()
    assert process.returncode == 75


def test_a_second_signal_kills():
    code = "import os, signal, time; signal.signal(15, lambda *_: os.write(1, b'no\\n')); print('ready', flush=True)\n"
    command = [sys.executable, str(FOLDER / "local.py"), "--", *BARE, "-c", f"{code}while True: time.sleep(1)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "no\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 137
