"""launch/slurm.py: the script it writes, and that script under a SLURM of one node, where sbatch is installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.launchers import FOLDER, launch

ROOT = FOLDER.parent
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=unet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=2
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=16
#SBATCH --time=8:00:00
#SBATCH --partition=gpu
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --qos=long

source env/bin/activate
resume=()
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then resume=(--resume); fi
trap : TERM  # SIGTERM is for the tasks; without this it would end the script and, with it, the job
srun --kill-on-bad-exit=0 --wait=60 --label --cpus-per-task=16 segjax train '--config=a b.py' "${resume[@]}"
status=$?
if { [ "$status" -eq 75 ] || [ "$status" -gt 128 ]; } && [ "${SLURM_RESTART_COUNT:-0}" -lt 5 ]; then
    echo "ended with status $status; back in the queue, to go on with --resume"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
# submitted with: sbatch --parsable unet.sbatch
"""


def test_dry_run_prints_the_script():
    words = [
        "--job-name=unet",
        "--nodes=4",
        "--tasks-per-node=2",
        "--gpus-per-node=8",
        "--cpus-per-task=16",
        "--time=8:00:00",
    ]
    words += ["--partition=gpu", "--sbatch=--qos=long", "--setup=source env/bin/activate", "--restarts=5", "--dry-run"]
    assert launch("slurm", *words, "--", "segjax", "train", "--config=a b.py").stdout == SCRIPT


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("--nodes=0", "--nodes: 0 is below 1."),
        ("--gpus-per-node=3", "--gpus-per-node: 3 GPUs do not divide among 2 tasks."),
    ],
)
def test_impossible_shapes(word, error):
    ended = launch("slurm", "--tasks-per-node=2", word, "--", "true")
    assert (ended.returncode, ended.stderr) == (1, error + "\n")


def test_without_slurm(tmp_path):
    ended = launch("slurm", "--", "true", cwd=tmp_path, env={"PATH": ""})
    assert ended.stderr.startswith("sbatch is not on this machine;")
    assert not list(tmp_path.iterdir())


CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _until(condition, seconds: float, what: str):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.25)
    raise AssertionError(f"not within {seconds:g} s: {what()}" if callable(what) else what)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a SLURM of its own: controller, one node, keys, all in one folder."""
    for program in ("sbatch", "slurmctld", "slurmd", "munged"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts tasks as root only")
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().split(".")[0]
    for part in (*folder.parents, folder):
        if part.name.startswith("pytest"):
            part.chmod(0o755)  # munge accepts no socket that others cannot reach
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    controller, daemon = _free_ports(2)
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, controller=controller, daemon=daemon, cores=os.cpu_count()))
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid"}
    files |= {"log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}
    environment = {**os.environ, "SLURM_CONF": str(conf), "PYTHONPATH": str(ROOT)}
    commands = [
        ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
    ]
    daemons = []
    try:
        for command in commands:
            daemons.append(
                subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )
            if command[0] == "munged":
                _until((folder / "munge.socket").exists, 30, "munged makes no socket")
        ask = ["sinfo", "--noheader", "--format=%T"]
        _until(
            lambda: "idle" in subprocess.run(ask, env=environment, capture_output=True, text=True).stdout,
            60,
            lambda: (folder / "slurmctld.log").read_text()[-2000:],
        )
        yield environment
    finally:
        for process in reversed(daemons):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


PROBE = """\
import os, signal, sys, time
from segjax.parallel.distributed import detect
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"saved\\n"), os._exit(75)))
print(detect(), *sys.argv[1:], flush=True)
if "--resume" not in sys.argv:
    time.sleep(120)
"""


def test_a_job_that_is_ended_goes_on_by_itself(slurm, tmp_path: Path):
    """Two tasks find each other through srun; SIGTERM, as at the time limit, sends the job back to the queue."""
    (tmp_path / "probe.py").write_text(PROBE)
    words = ["--tasks-per-node=2", "--job-name=probe", f"--output={tmp_path}/log", "--", sys.executable, "probe.py"]
    ended = launch("slurm", *words, cwd=tmp_path, env=slurm)
    assert ended.returncode == 0, ended.stderr
    job, log = ended.stdout.strip(), tmp_path / "log"

    def text() -> str:
        return log.read_text() if log.exists() else ""

    place = "SLURM, job {} step 0: process {} of 2, coordinator {}:{}"
    places = [place.format(job, p, socket.gethostname().split(".")[0], 61440 + int(job) % 4096) for p in (0, 1)]
    _until(lambda: all(f"{p}: {places[p]}\n" in text() for p in (0, 1)), 60, text)
    subprocess.run(["scancel", "--signal=TERM", job], env=slurm, check=True)
    _until(lambda: "back in the queue" in text(), 60, text)
    state = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    _until(lambda: "PENDING" in subprocess.run(state, env=slurm, capture_output=True, text=True).stdout, 60, text)
    # SLURM waits two minutes before a requeued job; nobody waits here.
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=slurm, check=True)
    _until(lambda: all(f"{p}: {places[p]} --resume\n" in text() for p in (0, 1)), 90, text)
    assert text().count("saved") == 2
    assert "ended with status 75; back in the queue, to go on with --resume" in text()
    shown = ["scontrol", "show", "job", job]
    _until(
        lambda: "JobState=COMPLETED" in subprocess.run(shown, env=slurm, capture_output=True, text=True).stdout,
        30,
        text,
    )


@pytest.mark.slow
def test_training_under_slurm(slurm, tmp_path: Path):
    """jax.distributed over srun's variables, a checkpoint at the end."""
    program = [sys.executable, str(ROOT / "tests/parallel/toy_process.py"), str(tmp_path / "run"), "4"]
    words = ["--tasks-per-node=2", "--job-name=toy", f"--output={tmp_path}/log", "--setup=export JAX_PLATFORMS=cpu"]
    ended = launch("slurm", *words, "--", *program, cwd=tmp_path, env=slurm)
    assert ended.returncode == 0, ended.stderr
    log = tmp_path / "log"
    _until(lambda: (tmp_path / "run/checkpoints/4").is_dir(), 240, lambda: log.read_text())
    assert "0: segjax: all 2 processes joined: " in log.read_text()


def test_a_batch_script_itself_is_no_task(slurm, tmp_path: Path):
    code = "from segjax.parallel.distributed import detect; print('found', detect())"
    script = tmp_path / "bare.sh"
    script.write_text(f'#!/bin/bash\nexec {sys.executable} -c "{code}"\n')
    command = ["sbatch", "--wait", "--ntasks=2", f"--output={tmp_path}/log", str(script)]
    subprocess.run(command, env=slurm, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "log").read_text() == "found None\n"
