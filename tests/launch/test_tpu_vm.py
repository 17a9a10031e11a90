"""launch/tpu_vm.py with a gcloud that records what it is asked; the real one's parser where it is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launchers import launch

MADE = ["--create", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot", "--delete"]
RUN = ["--", "segjax", "train", "--config=a b.py"]


def _plan(*words: str) -> list[list[str]]:
    ended = launch("tpu_vm", "pod", "--zone=us-west4-a", *words, "--dry-run", *RUN)
    assert ended.returncode == 0, ended.stderr
    return [shlex.split(line) for line in ended.stdout.splitlines()]


def test_dry_run_of_a_slice_that_is_there():
    (command,) = _plan("--project=p")
    assert command[:-1] == [
        "gcloud",
        "compute",
        "tpus",
        "tpu-vm",
        "ssh",
        "pod",
        "--zone=us-west4-a",
        "--project=p",
        "--worker=all",
    ]
    assert command[-1].startswith("--command=n=0; resume=; while :; do segjax train '--config=a b.py' $resume;")


def test_dry_run_of_a_queued_slice():
    commands = [" ".join(command) for command in _plan(*MADE, "--queued", "--copy=.", "--setup=pip install .")]
    assert commands[0] == (
        "gcloud compute tpus queued-resources create pod --node-id=pod --zone=us-west4-a "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --spot"
    )
    assert commands[1].endswith("queued-resources describe pod --zone=us-west4-a --format=value(state.state)")
    assert commands[2].endswith("tpu-vm scp --recurse . pod: --zone=us-west4-a --worker=all")
    assert commands[3].endswith("tpu-vm ssh pod --zone=us-west4-a --worker=all --command=pip install .")
    assert "segjax train" in commands[4]
    assert commands[5].endswith("queued-resources delete pod --zone=us-west4-a --force --quiet")
    assert len(commands) == 6


def test_dry_run_without_the_queue():
    create, _, delete = (" ".join(command) for command in _plan(*MADE))
    assert create.endswith("--accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot")
    assert delete == "gcloud compute tpus tpu-vm delete pod --zone=us-west4-a --quiet"


@pytest.mark.parametrize(
    ("statuses", "restarts", "seen", "last"),
    [
        ([0], 3, ["first"], 0),
        ([75, 0], 3, ["first", "first --resume"], 0),
        ([137, 75, 0], 3, ["first", "first --resume", "first --resume"], 0),
        ([2], 3, ["first"], 2),
        ([75, 75, 75], 1, ["first", "first --resume"], 75),
    ],
)
def test_a_worker_starts_again_with_resume(statuses, restarts, seen, last, tmp_path: Path):
    """The line that a worker's shell is given, in a shell."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$@" >> seen\ns=$(head -n 1 left); sed -i 1d left; exit $s\n')
    program.chmod(0o755)
    (tmp_path / "left").write_text("".join(f"{status}\n" for status in statuses))
    words = ["--zone=z", f"--restarts={restarts}", "--dry-run", "--", "./program", "first"]
    (line,) = launch("tpu_vm", "pod", *words).stdout.splitlines()
    command = shlex.split(line)[-1].removeprefix("--command=")
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path).returncode == last
    assert (tmp_path / "seen").read_text().splitlines() == seen


GCLOUD = """\
#!{python}
import sys
from pathlib import Path
folder = Path({folder!r})
with (folder / "asked").open("a") as file:
    print(*sys.argv[1:], file=file)
verb = sys.argv[4]
answers = (folder / verb).read_text().splitlines() if (folder / verb).exists() else []
if answers:
    (folder / verb).write_text("".join(line + "\\n" for line in answers[1:]))
    text, _, status = answers[0].partition(" ")
    print(text)
    sys.exit(int(status or 0))
"""


def _with_gcloud(folder: Path, words: list[str], **answers: list[str]) -> tuple[subprocess.CompletedProcess, list[str]]:
    program = folder / "gcloud"
    program.write_text(GCLOUD.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    for verb, lines in answers.items():
        (folder / verb).write_text("".join(line + "\n" for line in lines))
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = launch("tpu_vm", "pod", "--zone=z", *words, *RUN, env=environment)
    asked = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    return ended, [
        " ".join(line.split()[2:4]) + (" --resume" if "--resume;" in line and "; resume=;" not in line else "")
        for line in asked
    ]


def test_a_slice_that_is_taken_away_is_made_anew(tmp_path: Path):
    ended, asked = _with_gcloud(
        tmp_path, [*MADE, "--queued"], describe=["ACTIVE", "SUSPENDED", "ACTIVE"], ssh=["- 255", "- 0"]
    )
    assert ended.returncode == 0
    one = ["queued-resources create", "queued-resources describe", "tpu-vm ssh"]
    lost = ["queued-resources describe", "queued-resources delete"]
    assert asked == [*one, *lost, *one[:2], "tpu-vm ssh --resume", "queued-resources delete"]
    assert "pod was taken away; restart 1 of 3" in ended.stderr


def test_a_run_that_fails_on_a_slice_that_is_there_ends(tmp_path: Path):
    ended, asked = _with_gcloud(tmp_path, MADE, describe=["READY"], ssh=["- 2"])
    assert ended.returncode == 2
    assert asked == ["tpu-vm create", "tpu-vm ssh", "tpu-vm describe", "tpu-vm delete"]


def test_a_queue_that_fails(tmp_path: Path):
    ended, asked = _with_gcloud(tmp_path, [*MADE, "--queued"], describe=["FAILED"])
    assert ended.returncode == 1
    assert ended.stderr == "pod: the queued resource is FAILED.\n"
    assert asked[-1] == "queued-resources delete"


def test_create_needs_a_type():
    ended = launch("tpu_vm", "pod", "--zone=z", "--create", *RUN)
    assert ended.stderr == "--create: give --accelerator-type and --runtime-version too.\n"


@pytest.mark.slow
def test_gcloud_knows_every_flag(tmp_path: Path):
    """Without an account gcloud reads its arguments (status 2 where it cannot), and then asks for one (status 1)."""
    if shutil.which("gcloud") is None:
        pytest.skip("gcloud is not installed")
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(tmp_path), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    commands = [*_plan(*MADE, "--queued", "--copy=.", "--project=p"), *_plan(*MADE, "--project=p")]
    for command in commands:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 1, (command, ended.stderr)
        assert "do not currently have an active account" in ended.stderr
