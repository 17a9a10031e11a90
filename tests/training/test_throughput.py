from __future__ import annotations

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.training import throughput
from segjax.training.throughput import Meter, flops_of, peak_flops, step_flops


def _device(kind: str, platform: str = "gpu") -> types.SimpleNamespace:
    return types.SimpleNamespace(device_kind=kind, platform=platform, process_index=0)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
    ],
)
def test_peaks_by_device_kind(kind: str, peak: float) -> None:
    assert peak_flops([_device(kind)] * 4) == 4 * peak


def test_an_unknown_device_has_no_peak() -> None:
    assert peak_flops([_device("Quantum 9000")]) is None


def test_simulated_cpu_devices_share_one_peak(monkeypatch) -> None:
    monkeypatch.setattr(throughput, "cpu_peak_flops", lambda: 5e10)
    assert peak_flops([_device("cpu", "cpu")] * 8) == 5e10


def test_flops_of_a_known_program() -> None:
    lowered = jax.jit(jnp.matmul).lower(jnp.ones((32, 64)), jnp.ones((64, 16)))
    np.testing.assert_allclose(step_flops(lowered), 2 * 32 * 64 * 16, rtol=0.01)
    np.testing.assert_allclose(step_flops(lowered, repeats=4), 4 * 2 * 32 * 64 * 16, rtol=0.01)


def test_cost_analysis_in_either_shape() -> None:
    assert flops_of({"flops": 6.0}) == 6.0
    assert flops_of([{"flops": 2.0}, {"flops": 3.0, "bytes accessed": 1.0}]) == 5.0
    assert flops_of(None) is None
    assert flops_of({}) is None


def test_meter_divides(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])
    meter = Meter(batch_size=8, flops=1e9, peak=1e10)
    for _ in range(4):
        now[0] += 0.5
        meter.add(waited=0.1)
    rates = meter.rates()
    assert rates["images_per_second"] == pytest.approx(16)
    assert rates["step_seconds"] == pytest.approx(0.5)
    assert rates["data_wait"] == pytest.approx(0.2)
    assert rates["mfu"] == pytest.approx(0.2)
    assert rates["host_memory"] > 1e6
    meter.reset()
    now[0] += 1
    assert meter.rates()["images_per_second"] == 0
    assert "mfu" not in Meter(8, None, 1e10).rates()
