"""Detection of what started a process, the roll call, and the watchdog's judgement; no jax process is started here."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest

from segjax.core.errors import EXIT_RESUME, ClusterError
from segjax.parallel.distributed import Cluster, detect
from segjax.parallel.roll_call import roll_call
from segjax.parallel.watchdog import PREFIX, Sign, Watchdog

# What srun of SLURM 22.05 sets for task 3 of four on two nodes, `--nodes=2 --ntasks-per-node=2`.
SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[03-04],login1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_process_on_its_own():
    assert detect({}) is None
    assert detect({"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None  # a batch script, no step


def test_variables_and_flags():
    environ = {"JAX_COORDINATOR_ADDRESS": "a:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert detect(environ) == Cluster("environment", "a:1234", 4, 3)
    assert detect({**environ, **SLURM}) == Cluster("environment", "a:1234", 4, 3)
    assert detect(environ, process=1) == Cluster("environment", "a:1234", 4, 1)
    assert detect({}, coordinator="[::1]:9", processes=2, process=0) == Cluster("environment", "[::1]:9", 2, 0)
    assert str(detect({**environ, "JOBSET_NAME": "big"})) == ("GKE, JobSet big: process 3 of 4, coordinator a:1234")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"JAX_PROCESS_ID": None}, "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES given, JAX_PROCESS_ID not"),
        ({"JAX_PROCESS_ID": None, "JAX_NUM_PROCESSES": None}, "JAX_NUM_PROCESSES and JAX_PROCESS_ID not"),
        ({"JAX_COORDINATOR_ADDRESS": None}, "JAX_COORDINATOR_ADDRESS not: give all three, or none"),
        ({"JAX_PROCESS_ID": "4"}, "process 4 of 4 cannot be; ids go from 0 to 3"),
        ({"JAX_NUM_PROCESSES": "four"}, "JAX_NUM_PROCESSES: 'four' is not a whole number"),
        ({"JAX_COORDINATOR_ADDRESS": "node1"}, "the coordinator 'node1' is not HOST:PORT"),
    ],
)
def test_contradictions_are_named(changes, words):
    environ = {"JAX_COORDINATOR_ADDRESS": "a:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", **changes}
    with pytest.raises(ClusterError, match=words):
        detect({key: value for key, value in environ.items() if value is not None})


def test_slurm():
    found = detect(SLURM)
    assert found == Cluster("SLURM, job 5000 step 0", f"gpu03:{61440 + 5000 % 4096}", 4, 3)
    assert detect({**SLURM, "SLURM_STEP_NODELIST": "n1,n2"}).coordinator.startswith("n1:")
    assert detect({**SLURM, "JAX_COORDINATOR_ADDRESS": "gpu04:7"}).coordinator == "gpu04:7"
    with pytest.raises(ClusterError, match="SLURM_NODEID not; start the run with srun"):
        detect({key: value for key, value in SLURM.items() if key != "SLURM_NODEID"})


@pytest.mark.parametrize(
    ("visible", "devices"),
    [("0,1,2,3", (2, 3)), ("2,3", None), ("", None)],  # all GPUs of the node; bound by SLURM to the task; none
)
def test_tasks_of_a_node_share_its_gpus(visible, devices):
    environ = {**SLURM, "SLURM_GPUS_ON_NODE": "4", "CUDA_VISIBLE_DEVICES": visible}
    assert detect(environ).local_devices == devices
    one_each = {**environ, "SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_NODEID": "3", "SLURM_LOCALID": "0"}
    assert detect(one_each).local_devices is None


def test_gpus_that_do_not_divide():
    environ = {**SLURM, "SLURM_GPUS_ON_NODE": "3", "CUDA_VISIBLE_DEVICES": "0,1,2"}
    with pytest.raises(ClusterError, match="3 GPUs do not divide among the 2 tasks of a node"):
        detect(environ)


def test_tpus_of_gke():
    environ = {"TPU_WORKER_HOSTNAMES": "w-0.x,w-1.x", "TPU_WORKER_ID": "1"}
    assert detect(environ) == Cluster("GKE, TPU", "w-0.x:8482", 2, 1)
    slices = {"MEGASCALE_NUM_SLICES": "3", "MEGASCALE_SLICE_ID": "2", "MEGASCALE_COORDINATOR_ADDRESS": "s-0.x:81"}
    assert detect({**environ, **slices}) == Cluster("GKE, TPU, slice 2 of 3", "s-0.x:8482", 6, 5)
    assert detect({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None
    with pytest.raises(ClusterError, match="2 workers and no TPU_WORKER_ID"):
        detect({"TPU_WORKER_HOSTNAMES": "a,b"})


def test_tpu_vm_by_its_metadata_server(monkeypatch):
    from segjax.parallel import distributed

    attributes = {
        "agent-worker-number": "2",
        "worker-network-endpoints": "unknown:unknown:10.0.0.7,unknown:unknown:10.0.0.8,unknown:unknown:10.0.0.9",
        "tpu-env": "ACCELERATOR_TYPE: 'v5litepod-16'\nWORKER_ID: '2'\n",
    }

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            known = name in attributes and self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(attributes.get(name, "").encode())

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        monkeypatch.setattr(distributed, "_tpu_chips", lambda: True)
        assert detect({}) == Cluster("TPU VM", "10.0.0.7:8482", 3, 2)
        attributes["worker-network-endpoints"] = "host-a,host-b,host-c"
        attributes["tpu-env"] += "MEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n"
        attributes["tpu-env"] += "MEGASCALE_COORDINATOR_ADDRESS: '10.9.9.9'\n"
        assert detect({}) == Cluster("TPU VM, slice 1 of 2", "10.9.9.9:8482", 6, 5)
        del attributes["agent-worker-number"]  # a machine with GPUs behind vfio
        assert detect({}) is None
        server.shutdown()


def _calls(count, *, present=None, timeout=20.0, facts=None, processes=None):
    """What each process's roll call ends with: host names, or the error's text."""
    port = _port()

    def call(process):
        try:
            total = (processes or {}).get(process, count)
            return roll_call(f"127.0.0.1:{port}", total, process, timeout, (facts or {}).get(process, {"jax": "1"}))
        except ClusterError as error:
            return str(error)

    present = range(count) if present is None else present
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, present))


def test_roll_call():
    assert _calls(4) == [[socket.gethostname()] * 4] * 4


def test_a_host_that_never_joins_is_named_on_every_host():
    host = socket.gethostname()
    answers = _calls(4, present=[0, 2], timeout=2.0)
    assert answers[0].startswith(f"2 of 4 processes joined within 2 s: 0 ({host}), 2 ({host}); missing: 1, 3.")
    assert "config.parallel.join_timeout" in answers[0]
    assert answers[1] == answers[0]


def test_no_process_0():
    (answer,) = _calls(2, present=[1], timeout=1.0)
    assert "process 1" in answer
    assert "could not reach process 0 at 127.0.0.1:" in answer
    assert "within 1 s (Connection refused)" in answer


def test_processes_that_do_not_fit_together():
    answers = _calls(2, processes={1: 3})
    assert all("number of processes is 2 for process 0" in answer for answer in answers)
    answers = _calls(2, facts={0: {"jax": "0.10"}, 1: {"jax": "0.11"}})
    assert all("jax is '0.10' for process 0" in answer and "'0.11' for process 1" in answer for answer in answers)
    answers = _calls(3, present=[0, 1, 1], timeout=3.0)
    assert all("two processes say they are process 1: pid" in answer for answer in answers)


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match=rf"port {port} of .* cannot be opened \(Address already in use\)"):
            roll_call(f"127.0.0.1:{port}", 2, 0, 1.0, {})


def test_strangers_at_the_port_are_sent_away():
    port = _port()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(roll_call, f"127.0.0.1:{port}", 2, 0, 20.0, {})
        for word in (b"GET / HTTP/1.0\r\n\r\n", b"[1]\n", b"{}\n", b"\n"):
            while not first.done():
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                        stranger.sendall(word)
                    break
                except OSError:
                    pass
        second = pool.submit(roll_call, f"127.0.0.1:{port}", 2, 1, 20.0, {})
        assert first.result() == second.result() == [socket.gethostname()] * 2


class Memory:
    """A key-value store; a process of which `cut` says so gets no answer."""

    def __init__(self):
        self.values, self.cut = {}, False

    def key_value_set(self, key, value, allow_overwrite=False):
        if self.cut:
            raise RuntimeError("UNAVAILABLE")
        assert allow_overwrite
        self.values[key] = value

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]


def _three(**changes):
    store = Memory()
    settings = {"heartbeat": 30.0, "hang": 100.0, "store": store, **changes}
    dogs = [Watchdog(p, ["n0", "n1", "n2"], **settings) for p in range(3)]
    for dog in dogs:
        for sign in dog._signs:
            sign.heard = sign.moved = 0.0
    return store, dogs


def _exchange(dogs, now, monkeypatch):
    monkeypatch.setattr("segjax.parallel.watchdog.time.monotonic", lambda: now)
    for _ in range(2):  # the second time everyone has read everyone
        for dog in dogs:
            dog._exchange()


def test_a_silent_process_is_named_with_its_step(monkeypatch):
    _, dogs = _three()
    for dog in dogs:
        dog.at(41, "train step")
    _exchange(dogs, 10.0, monkeypatch)
    dogs[0].at(42, "waiting for data")
    for now in (11.0, 25.0, 40.0):  # at 11 s the last line of process 1 is read
        _exchange([dogs[0], dogs[2]], now, monkeypatch)
        assert dogs[0].verdict(now) is None
    _exchange([dogs[0], dogs[2]], 42.0, monkeypatch)
    message, status = dogs[0].verdict(42.0)
    assert status == EXIT_RESUME
    assert message.startswith(
        "process 1 (n1) stopped answering; it was last heard of 31 s ago, at step 41 (train step). This is process 0 "
        "(n0), at step 42."
    )
    assert "process 1 (n1)" in dogs[2].verdict(42.0)[0]


def test_the_loss_of_the_process_that_keeps_the_store(monkeypatch):
    store, dogs = _three()
    _exchange(dogs, 10.0, monkeypatch)
    store.cut = True
    _exchange(dogs, 45.0, monkeypatch)
    assert (
        dogs[1]
        .verdict(45.0)[0]
        .startswith("process 0 (n0) stopped answering; it was last heard of 35 s ago, at step 0")
    )
    assert dogs[1].verdict(39.0) is None


def test_a_process_that_leaves_is_not_lost(monkeypatch):
    _, dogs = _three()
    dogs[1]._mine.left = True
    _exchange(dogs, 10.0, monkeypatch)
    _exchange([dogs[0], dogs[2]], 200.0, monkeypatch)
    assert dogs[0].verdict(200.0) is None


def test_a_process_that_fails_takes_the_others_along(monkeypatch):
    _, dogs = _three()
    dogs[2].at(7, "train step")
    dogs[2]._mine.failed = ("a.png: truncated", 2)
    _exchange(dogs, 1.0, monkeypatch)
    assert dogs[0].verdict(1.0) == ("process 2 (n2) failed at step 7: a.png: truncated", 2)


def test_a_hang_names_who_is_behind(monkeypatch):
    _, dogs = _three()
    monkeypatch.setattr("segjax.parallel.watchdog.time.monotonic", lambda: 10.0)
    for dog in dogs:
        dog.at(5, "waiting for data")
    for dog in (dogs[0], dogs[2]):
        dog.at(5, "train step")
    for now in (20.0, 60.0, 100.0, 125.0):
        _exchange(dogs, now, monkeypatch)
    message, status = dogs[0].verdict(125.0)
    assert status == EXIT_RESUME
    assert "process 1 (n1) is behind, at step 5 (waiting for data); the others wait for it" in message
    dogs[1].at(5, "train step")
    _exchange(dogs, 126.0, monkeypatch)
    assert dogs[0].verdict(126.0) is None
    for now in (150.0, 200.0, 230.0):
        _exchange(dogs, now, monkeypatch)
    assert "all 3 processes wait at step 5 (train step): a collective hangs" in dogs[2].verdict(230.0)[0]


def test_compilation_may_take_its_time(monkeypatch):
    _, dogs = _three()
    dogs[1].at(1, "compilation", patient=True)
    for dog in (dogs[0], dogs[2]):
        dog.at(1, "train step")
    for now in (20.0, 60.0, 1000.0):
        _exchange(dogs, now, monkeypatch)
        assert dogs[0].verdict(now) is None


def test_the_threads_end_a_process_that_lost_another():
    ended = threading.Event()
    said = []
    store = Memory()
    store.values[f"{PREFIX}1"] = Sign(beat=4, step=9, doing="train step").to_json()
    dog = Watchdog(0, ["n0", "n1"], heartbeat=0.3, store=store, end=lambda *words: (said.append(words), ended.set()))
    with dog:
        assert ended.wait(20)
    assert said[0][0].startswith("process 1 (n1) stopped answering;")
    assert "at step 9 (train step)" in said[0][0]
    assert json.loads(store.values[f"{PREFIX}0"])["left"]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (jax.errors.JaxRuntimeError("INTERNAL: Gloo AllReduce failed: Connection closed by peer"), True),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer"), True),  # while it is dispatched
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 GB"), False),
        (ValueError("INVALID_ARGUMENT: shapes"), False),
    ],
)
def test_a_collective_that_breaks_off_is_the_partners_loss(error, lost):
    said = []
    dog = Watchdog(0, ["n0", "n1"], heartbeat=0.6, store=Memory(), end=lambda *words: said.append(words))
    with pytest.raises(type(error)), dog:
        raise error
    message, status = said[0]
    assert message.startswith("process 1 (n1) stopped answering" if lost else "process 0 (n0) failed at step 0")
    assert status == (EXIT_RESUME if lost else 1)


def test_one_process_has_no_watchdog():
    with Watchdog() as dog:
        dog.at(3)
        assert not any(thread.name.startswith("watchdog") for thread in threading.enumerate())
