"""What a run has to work with: kind and number of devices, their memory and speed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import jax

from segjax.training.throughput import peak_flops

CORE_FLOPS = 80e9
"""Peak FLOP/s that a CPU core is taken to have. A measurement would depend on what else the machine does, and with it
the length of a run: the same data on the same machine shall give the same config."""

_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_GROUP_CPU = "/sys/fs/cgroup/cpu.max"


@dataclasses.dataclass(frozen=True)
class Machine:
    """The devices of a run.

    Attributes:
      platform: `cpu`, `gpu` or `tpu`.
      devices: their number, over all processes.
      memory: bytes of one device; of a CPU, of the host, shared by its devices. None where nothing tells.
      flops: peak FLOP/s of all devices: bfloat16 by the data sheet; of a CPU float32, by the number of its cores. None
        for devices that are not known.
      host_memory: bytes that this process's host has, or its control group allows.
    """

    platform: str
    devices: int
    memory: float | None
    flops: float | None
    host_memory: float | None

    @property
    def is_cpu(self) -> bool:
        return self.platform == "cpu"

    def line(self) -> str:
        """`machine: 2 x gpu, ...` for people."""
        memory = "unknown memory" if self.memory is None else f"{self.memory / 2**30:.0f} GiB"
        speed = "unknown speed" if self.flops is None else f"{self.flops / 1e9:,.0f} GFLOP/s"
        return f"machine: {self.devices} x {self.platform}, {memory}, {speed}"


def this_machine() -> Machine:
    """The devices that jax sees."""
    devices = jax.devices()
    host = _host_memory()
    if devices[0].platform == "cpu":
        memory = host
        flops = CORE_FLOPS * _cores() * jax.process_count()
    else:
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
        flops = peak_flops(devices)
    return Machine(devices[0].platform, len(devices), memory, flops, host)


def _cores() -> float:
    """The cores that this process may use, or the control group's share of them, the smaller."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no such version of control groups, or "max"
        quota, period = Path(_GROUP_CPU).read_text().split()
        return min(cores, float(quota) / float(period))
    return cores


def _host_memory() -> float | None:
    """The machine's memory or what the control group allows, the smaller; None where the system does not tell."""
    limits = []
    with contextlib.suppress(OSError, ValueError):  # a system without these names
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for path in _GROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such version of control groups, or "max"
            limits.append(float(Path(path).read_text()))
    return min(limits, default=None)
