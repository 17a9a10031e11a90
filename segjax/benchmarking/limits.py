"""What the device can do, measured before anything is compared with it: arithmetic and memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from segjax.training.throughput import fastest, matmul_flops


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of all devices of a program together.

    Attributes:
      flops: FLOP/s of matrix products in the program's dtype.
      bandwidth: bytes/s read and written by the sum of two arrays that no cache holds.
    """

    flops: float
    bandwidth: float

    @property
    def record(self) -> dict[str, float]:
        """As JSON values, `peak_flops` and `bandwidth`."""
        return {"peak_flops": self.flops, "bandwidth": self.bandwidth}

    def floor(self, flops: float, nbytes: float) -> tuple[float, str]:
        """(seconds, "arithmetic" or "memory"): what no program with that work can go below."""
        arithmetic, memory = flops / self.flops, nbytes / self.bandwidth
        return max(arithmetic, memory), "arithmetic" if arithmetic >= memory else "memory"


def measure_limits(dtype: Any, devices: int = 1) -> Limits:
    """Measured on one device and multiplied by `devices`; takes a few seconds. Devices of a CPU share its cores, so
    theirs are not multiplied."""
    device = jax.local_devices()[0]
    on_cpu = device.platform == "cpu"
    times = 1 if on_cpu else devices
    flops = matmul_flops(device, dtype, size=2048 if on_cpu else 8192, repeats=8)
    return Limits(times * flops, times * bandwidth(device, (1 if on_cpu else 4) * 2**26))


def bandwidth(device: jax.Device, elements: int, repeats: int = 8) -> float:
    """Bytes/s of `a + 2 b`, float32: two arrays read, one written; the best of `repeats`."""
    with jax.default_device(device):
        a, b = jnp.ones(elements), jnp.ones(elements)
    add = jax.jit(lambda a, b: a + 2 * b)
    return 3 * a.nbytes / fastest(lambda: add(a, b), repeats)


def must_move(compiled: Any, devices: int) -> float | None:
    """Bytes of the arguments and the results of a compiled program over its devices; None where jax cannot tell."""
    stats = compiled.memory_analysis()
    return None if stats is None else float(devices * (stats.argument_size_in_bytes + stats.output_size_in_bytes))


def compare(seconds: float, limits: Limits, flops: float | None, nbytes: float | None) -> dict[str, Any]:
    """A measured time beside the floor, as JSON values.

    Args:
      seconds: measured.
      limits: of the devices.
      flops: of the program as traced, over all devices; None where jax cannot tell.
      nbytes: that a program must move, over all devices: its arguments read once and its results written once
        (`must_move`). What it keeps in between is not in it, so the floor holds however well operations are fused.

    Returns:
      `flops`, `bytes`, `floor_seconds`, `bound` (what the floor is made of), `floor_share` (floor / measured, 1 is the
      best there can be) and `utilisation` (FLOP/s over the measured peak); None where they are not known.
    """
    known = flops is not None
    floor, bound = limits.floor(flops or 0.0, nbytes or 0.0) if known else (None, None)
    return {
        "flops": flops,
        "bytes": nbytes,
        "floor_seconds": floor,
        "bound": bound,
        "floor_share": floor / seconds if known else None,
        "utilisation": flops / seconds / limits.flops if known else None,
    }
