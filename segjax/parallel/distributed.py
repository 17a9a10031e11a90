"""Where this process stands among those of its run, by what started them: SLURM, a TPU VM, GKE, or variables.

jax can detect most of these itself, but says nothing of what it found, gives a SLURM task only the GPU of its own
number, and ends in an abort where a host is missing. So the detection is done here, and jax is told the result.

Sources: SLURM's srun(1), section OUTPUT ENVIRONMENT VARIABLES; jax/_src/clusters (names of metadata attributes and
of GKE's variables, default ports).
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping

from segjax.core.errors import ClusterError
from segjax.parallel.roll_call import roll_call

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""What launch/local.py and launch/gke.py set, and anyone may; the first is jax's own."""
TPU_PORT = 8482
SLURM_PORTS = range(61440, 65536)
"""jax's choices: a run's port is one of these by its job id, so that two jobs on a node do not meet."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where this process stands.

    Attributes:
      name: what was detected.
      coordinator: "host:port" where process 0 listens.
      processes, process: how many there are, and which this is.
      local_devices: the GPUs of this host that are this process's; None = all it sees.
    """

    name: str
    coordinator: str
    processes: int
    process: int
    local_devices: tuple[int, ...] | None = None

    def __str__(self) -> str:
        text = f"{self.name}: process {self.process} of {self.processes}, coordinator {self.coordinator}"
        return text if self.local_devices is None else f"{text}, GPUs {', '.join(map(str, self.local_devices))}"


def detect(
    environ: Mapping[str, str] | None = None,
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    metadata: Callable[[str], str | None] | None = None,
) -> Cluster | None:
    """The run's cluster, or None for a process on its own.

    Arguments win over variables, variables (`JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`, `JAX_PROCESS_ID`) over
    SLURM, SLURM over TPUs.

    Args:
      environ: default `os.environ`.
      coordinator, processes, process: from the command line.
      metadata: an attribute of this Google Cloud machine, or None; by default asked for on machines with TPUs only.

    Raises:
      ClusterError: for variables that are incomplete, no numbers, or contradict each other.
    """
    environ = os.environ if environ is None else environ
    given = {
        ADDRESS: environ.get(ADDRESS) if coordinator is None else coordinator,
        COUNT: environ.get(COUNT) if processes is None else processes,
        INDEX: environ.get(INDEX) if process is None else process,
    }
    if given[COUNT] is not None or given[INDEX] is not None:
        missing = [name for name, value in given.items() if value in (None, "")]
        if missing:
            there = ", ".join(name for name in given if name not in missing)
            raise ClusterError(f"{there} given, {' and '.join(missing)} not: give all three, or none.")
        jobset = environ.get("JOBSET_NAME")
        name = f"GKE, JobSet {jobset}" if jobset else environ.get("SEGJAX_LAUNCHER", "environment")
        return _checked(name, str(given[ADDRESS]), _number(COUNT, given[COUNT]), _number(INDEX, given[INDEX]))
    if "SLURM_STEP_ID" in environ and "SLURM_PROCID" in environ:
        return _slurm(environ, given[ADDRESS])
    if "TPU_WORKER_HOSTNAMES" in environ or "TPU_PROCESS_ADDRESSES" in environ:
        return _tpu("GKE, TPU", environ.get, given[ADDRESS])
    if metadata is None and "TPU_SKIP_MDS_QUERY" not in environ and _tpu_chips():
        metadata = _metadata
    if metadata is not None and metadata("agent-worker-number") is not None:
        return _tpu("TPU VM", _of_tpu_vm(metadata), given[ADDRESS])
    if given[ADDRESS]:
        raise ClusterError(f"{ADDRESS} given, {COUNT} and {INDEX} not: give all three, or none.")
    return None


def start(cluster: Cluster, *, join_timeout: float, heartbeat: float) -> list[str]:
    """Joins the run's processes; call it before anything else touches jax's devices.

    Args:
      cluster: of `detect`.
      join_timeout: seconds for all processes to come.
      heartbeat: seconds after which the watchdog gives up a silent process; jax's own limit, its backstop, is longer.

    Returns:
      The host name of each process.

    Raises:
      ClusterError: a host that never joins, or processes that do not fit together.
    """
    import jax

    print(f"segjax: {cluster}", flush=True)
    facts = {"jax": jax.__version__}
    hosts = roll_call(cluster.coordinator, cluster.processes, cluster.process, join_timeout, facts)
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.processes,
        cluster.process,
        local_device_ids=None if cluster.local_devices is None else list(cluster.local_devices),
        cluster_detection_method="deactivate",
        initialization_timeout=round(join_timeout),
        heartbeat_timeout_seconds=round(2 * heartbeat) + 10,
    )
    if jax.process_count() != cluster.processes:
        raise ClusterError(
            f"{cluster.name}: {cluster.processes} processes joined, but the {jax.default_backend()} devices belong to "
            f"{jax.process_count()}; is JAX_PLATFORMS the same on all hosts, and its plugin installed?"
        )
    return hosts


def _checked(name: str, coordinator: str, processes: int, process: int, **more: object) -> Cluster:
    if not 0 <= process < processes:
        raise ClusterError(f"{name}: process {process} of {processes} cannot be; ids go from 0 to {processes - 1}.")
    if not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\s]+):\d+", coordinator):
        raise ClusterError(f"{name}: the coordinator {coordinator!r} is not HOST:PORT.")
    return Cluster(name, coordinator, processes, process, **more)


def _number(name: str, text: object) -> int:
    try:
        return int(str(text))
    except ValueError:
        raise ClusterError(f"{name}: {text!r} is not a whole number.") from None


def _slurm(environ: Mapping[str, str], coordinator: str | None) -> Cluster:
    """A task that srun started. A batch script itself is in no step, and a process on its own."""
    needed = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE")
    needed += ("SLURM_LOCALID", "SLURM_NODEID")
    missing = [name for name in needed if name not in environ]
    if missing:
        raise ClusterError(f"SLURM: SLURM_STEP_ID is set and {' and '.join(missing)} not; start the run with srun.")
    job, step = _number("SLURM_JOB_ID", environ["SLURM_JOB_ID"]), _number("SLURM_STEP_ID", environ["SLURM_STEP_ID"])
    first = _first_host(environ["SLURM_STEP_NODELIST"])
    port = SLURM_PORTS[(job + step) % len(SLURM_PORTS)]
    return _checked(
        f"SLURM, job {job} step {step}",
        coordinator or f"{first}:{port}",
        _number("SLURM_STEP_NUM_TASKS", environ["SLURM_STEP_NUM_TASKS"]),
        _number("SLURM_PROCID", environ["SLURM_PROCID"]),
        local_devices=_slurm_gpus(environ),
    )


def _first_host(nodes: str) -> str:
    """`a03` of `a[03-05,09],b1`."""
    prefix, number = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes).groups()
    return prefix + (number or "")


def _slurm_gpus(environ: Mapping[str, str]) -> tuple[int, ...] | None:
    """This task's share of the GPUs, where the tasks of a node all see all of them; else what it sees is its own."""
    counts = []  # of "2(x3),1": 2, 2, 2, 1
    for count, repeat in re.findall(r"(\d+)(?:\(x(\d+)\))?", environ["SLURM_STEP_TASKS_PER_NODE"]):
        counts += [int(count)] * int(repeat or 1)
    tasks = counts[int(environ["SLURM_NODEID"])]
    visible = [name for name in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if tasks == 1 or not visible or len(visible) < int(environ.get("SLURM_GPUS_ON_NODE", 0)):
        return None
    if len(visible) % tasks:
        raise ClusterError(
            f"SLURM: {len(visible)} GPUs do not divide among the {tasks} tasks of a node; change --ntasks-per-node."
        )
    share = len(visible) // tasks
    local = int(environ["SLURM_LOCALID"])
    return tuple(range(local * share, (local + 1) * share))


def _tpu(name: str, value: Callable[[str], str | None], coordinator: str | None) -> Cluster | None:
    """A worker of one TPU slice, or of several joined over the data-centre network (MEGASCALE_*)."""
    workers = (value("TPU_PROCESS_ADDRESSES") or value("TPU_WORKER_HOSTNAMES") or "").split(",")
    worker = value("TPU_WORKER_ID")
    if worker is None:
        if len(workers) == 1:
            return None
        raise ClusterError(f"{name}: {len(workers)} workers and no TPU_WORKER_ID; which one is this?")
    slices = _number("MEGASCALE_NUM_SLICES", value("MEGASCALE_NUM_SLICES") or 1)
    number = _number("MEGASCALE_SLICE_ID", value("MEGASCALE_SLICE_ID") or 0)
    if slices * len(workers) == 1:
        return None
    first = (value("MEGASCALE_COORDINATOR_ADDRESS") if slices > 1 else None) or workers[0]
    return _checked(
        name if slices == 1 else f"{name}, slice {number} of {slices}",
        coordinator or f"{first.split(':')[0]}:{TPU_PORT}",
        slices * len(workers),
        number * len(workers) + _number("TPU_WORKER_ID", worker),
    )


def _of_tpu_vm(metadata: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """GKE's variables, from a TPU VM's metadata."""
    lines = (metadata("tpu-env") or "").splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): text.strip().strip("'") for key, text in pairs}
    ends = [end.split(":") for end in (metadata("worker-network-endpoints") or "").split(",")]  # HOST or name:id:HOST
    values["TPU_WORKER_HOSTNAMES"] = ",".join(end[2] if len(end) == 3 else end[0] for end in ends)
    values["TPU_WORKER_ID"] = metadata("agent-worker-number")
    values.pop("TPU_PROCESS_ADDRESSES", None)
    return values.get


def _tpu_chips() -> bool:
    return bool(glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*"))


def _metadata(attribute: str) -> str | None:
    server = os.environ.get("GCE_METADATA_IP", "metadata.google.internal")
    url = f"http://{server}/computeMetadata/v1/instance/attributes/{attribute}"
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, TimeoutError):
        return None
