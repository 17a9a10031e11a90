"""Names of topologies, and what is said of those that cannot be planned for."""

from __future__ import annotations

import importlib.metadata

import pytest

from segjax.core.errors import ConfigError
from segjax.planning import topology
from segjax.planning.chips import GPUS, SHAPES, TPUS, gpu_target
from segjax.training.throughput import PEAK_FLOPS


@pytest.mark.parametrize(
    ("name", "devices"),
    [("v5e:16x16", 256), ("v5p:4x4x4", 64), ("v4:2x2x1", 4), ("tpu7x:4x4x4", 128), ("cuda:h100:8", 8), ("cpu:8", 8)],
)
def test_devices_by_name(name, devices):
    assert topology.count_devices(name) == devices


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v5ee:16x16", "Did you mean 'v5e'?"),
        ("v9:2x2", "'v9:2x2' is unknown"),
        ("elsewhere", "known are names like v4:4x4x4"),
        ("v5e", "such as v5e:16x16"),
        ("v5p:4x4", "whose shapes have 3 numbers, such as v5p:4x4x4"),
        ("v5e:0x4", "no slice of a v5e"),
        ("cuda:h100", "such as cuda:h100:8"),
        ("cuda:h1000:8", "Did you mean 'h100'?"),
        ("cpu:none", "unknown"),
    ],
)
def test_an_unknown_one_is_told_with_what_would_do(name, words):
    with pytest.raises(ConfigError, match="--topology") as caught:
        topology.parse(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tpu_without_libtpu_says_how_to_get_it(monkeypatch):
    def absent(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ConfigError, match=r"needs libtpu.*pip install 'segjax\[plan\]'"):
        topology.open_topology("v5e:2x2")


def test_another_libtpu_than_jaxs_is_refused(monkeypatch):
    monkeypatch.setattr("jax.__version__", "0.10.2")
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.0.51")
    with pytest.raises(ConfigError, match=r"libtpu 0\.0\.51 does not match jax 0\.10\.2.*libtpu==0\.0\.42"):
        topology.open_topology("v5e:2x2")


def test_more_simulated_devices_than_jax_has_made_are_refused():
    import jax

    have = len(jax.devices("cpu"))
    with pytest.raises(ConfigError, match=f"needs {have + 1} simulated devices"):
        topology.open_topology(f"cpu:{have + 1}")
    assert len(topology.open_topology(f"cpu:{have}").devices) == have


def test_peaks_are_those_the_training_log_uses():
    known = dict(PEAK_FLOPS)
    for chip in TPUS.values():
        assert chip.flops == pytest.approx(known[chip.kind], rel=1e-3)
    for chip in GPUS.values():
        assert chip.flops == max((len(k), v) for k, v in PEAK_FLOPS if chip.kind.startswith(k))[1]


def test_every_tpu_has_a_shape_to_suggest():
    assert SHAPES.keys() == TPUS.keys()
    for chip, shape in SHAPES.items():
        assert topology.parse(f"{chip}:{shape}") == ("tpu", chip, shape)


def test_a_gpus_description_tells_its_memory():
    assert "device_memory_size: 151397597184" in gpu_target(GPUS["h200"])
    assert "memory_bandwidth: 3352320000000" in gpu_target(GPUS["h100"])
