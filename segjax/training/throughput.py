"""How fast a run is: model FLOP/s against the device's peak, data wait, memory."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PEAK_FLOPS = (
    # (start of jax's device_kind, dense bfloat16 FLOP/s of one jax device); the longest match wins. Vendors' data
    # sheets; a v2 or v3 chip is two jax devices, and so is a v7x.
    ("TPU v2", 22.5e12),
    ("TPU v3", 61.5e12),
    ("TPU v4", 275e12),
    ("TPU v4 lite", 138e12),
    ("TPU v5", 459e12),
    ("TPU v5p", 459e12),
    ("TPU v5e", 197e12),
    ("TPU v5 lite", 197e12),
    ("TPU v6e", 918e12),
    ("TPU v6 lite", 918e12),
    ("TPU7x", 1153e12),
    ("Tesla T4", 65e12),
    ("Tesla V100", 125e12),
    ("NVIDIA A10", 125e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA GH200", 989e12),
    ("NVIDIA B200", 2250e12),
    ("NVIDIA GeForce RTX 3090", 71e12),
    ("NVIDIA GeForce RTX 4090", 165e12),
)


def flops_of(analysis: Mapping[str, float] | Sequence[Mapping[str, float]] | None) -> float | None:
    """FLOPs in a `cost_analysis()`: a dict, or a list of them, by jax version and backend; None if it does not say."""
    if isinstance(analysis, Mapping):
        analysis = [analysis]
    total = sum(float(part.get("flops", 0.0)) for part in analysis or ())
    return total if total > 0 else None


def step_flops(lowered: Any, *, repeats: int = 1) -> float | None:
    """FLOPs of one train step over all devices, from the program as traced (before XLA partitions or fuses it).

    The analysis counts a loop's body once, and of a mapped program one device's part, so the figure is multiplied by
    `repeats`, micro-batches times devices that map; what a step does once (augmentation, update) is then counted as
    often, which is under a percent of a network's work.
    Recomputation (remat) is counted: the figure is then a hardware, not a model utilisation.
    """
    try:
        flops = flops_of(lowered.cost_analysis())
    except (NotImplementedError, RuntimeError):  # a backend may have no analysis; the log then goes without MFU
        return None
    return None if flops is None else flops * repeats


def peak_flops(devices: Sequence[jax.Device]) -> float | None:
    """Peak FLOP/s of all `devices` together; dense bfloat16, measured in float32 for CPUs; None for unknown devices."""
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        # The devices of a CPU process share its cores: simulated ones add nothing.
        return cpu_peak_flops() * max(1, len({device.process_index for device in devices}))
    matches = [(len(prefix), peak) for prefix, peak in PEAK_FLOPS if kind.startswith(prefix)]
    return max(matches)[1] * len(devices) if matches else None


@functools.cache
def cpu_peak_flops() -> float:
    """FLOP/s of float32 matrix products on this process's cores; takes about 0.1 s."""
    return matmul_flops(jax.local_devices(backend="cpu")[0], jnp.float32)


def matmul_flops(device: jax.Device, dtype: Any, size: int = 1024, repeats: int = 4) -> float:
    """FLOP/s of the best of a few matrix products [size, size] on one device."""
    a = jax.device_put(np.ones((size, size), dtype), device)
    product = jax.jit(jnp.matmul)
    return 2 * size**3 / fastest(lambda: product(a, a), repeats)


def fastest(call: Callable[[], jax.Array], repeats: int) -> float:
    """Seconds of the quickest of so many calls, each waited for, after one that compiles."""
    call().block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call().block_until_ready()
        best = min(best, time.perf_counter() - start)
    return best


def device_memory_bytes() -> int | None:
    """Largest peak of memory in use over this process's devices; None where the backend does not tell (CPU)."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    peaks = [peak for peak in peaks if peak is not None]
    return max(peaks) if peaks else None


def host_memory_bytes() -> int:
    """This process's resident memory now; where the system does not tell (no /proc), its peak."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class Meter:
    """Counts between two log lines; all times are the host's."""

    def __init__(self, batch_size: int, flops: float | None, peak: float | None):
        self._batch_size, self._flops, self._peak = batch_size, flops, peak
        self.reset()

    def reset(self) -> None:
        """Starts a new interval now."""
        self._start, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def add(self, waited: float) -> None:
        """Counts one step, before which the loop waited so many seconds for its batch."""
        self._waited += waited
        self._steps += 1

    def rates(self) -> dict[str, float]:
        """`images_per_second`, `step_seconds`, `data_wait` and `mfu` (shares of 1), memory in bytes."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        steps = max(self._steps, 1)
        rates = {
            "images_per_second": self._steps * self._batch_size / seconds,
            "step_seconds": seconds / steps,
            "data_wait": self._waited / seconds,
            "host_memory": float(host_memory_bytes()),
        }
        if self._flops and self._peak:
            rates["mfu"] = self._flops * self._steps / seconds / self._peak
        memory = device_memory_bytes()
        if memory is not None:
            rates["device_memory"] = float(memory)
        return rates
