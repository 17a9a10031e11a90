"""Plans for TPUs: their compiler runs here, no TPU does. CI has no libtpu."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install 'segjax[plan]'"
)

DEVICES = """
import json
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from segjax.core.errors import ConfigError
from segjax.parallel.mesh import make_mesh
from segjax.planning.memory import refused
from segjax.planning.topology import count_devices, open_topology

found = {}
for name in ("v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:4x4", "tpu7x:2x2x1"):
    there = open_topology(name)
    assert len(there.devices) == count_devices(name)
    assert there.devices[0].device_kind == there.chip.kind
    for spatial in (2, 4):  # an image's parts stay on one host, whatever the torus
        mesh = make_mesh(spatial=spatial, devices=there.devices)
        assert all(len({d.process_index for d in group}) == 1 for group in mesh.devices.reshape(-1, spatial))
    found[name] = dict(mesh.shape)
    huge = jax.ShapeDtypeStruct((200, 2**30), jnp.uint8, sharding=NamedSharding(mesh, PartitionSpec()))
    try:
        jax.jit(lambda x: x + jnp.uint8(1)).trace(huge).lower(lowering_platforms=("tpu",)).compile()
    except jax.errors.JaxRuntimeError as error:
        needed, available = refused(str(error))  # argument and result, 200 GiB each
        assert needed == 400 * 2**30
        # libtpu tells hundredths of a GiB; jax 0.11's takes one more for itself on some chips.
        assert abs(available - there.chip.memory) < 0.015 * 2**30, name
    else:
        raise AssertionError(name)
try:
    open_topology("v5e:3x2")
except ConfigError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    config = ConfigDict()
    config.name = "tiny"
    config.model = dict(name="unet/test")
    config.data = dict(crop_size=(32, 32))
    config.augment = dict(flip=False)
    config.optim = dict(name="sgd", momentum=0.9)
    config.train = dict(steps=10, batch_size=16, dtype="bfloat16")
    return config
"""


def test_every_generation_has_the_devices_and_the_memory_that_is_said():
    done = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["v6e:4x4"] == {"data": 4, "fsdp": 1, "spatial": 4}
    assert "not made of whole hosts of 2x2 chips" in found["error"]


@pytest.mark.slow
def test_a_plan_for_a_tpu_has_cycles_peaks_and_a_bracket(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    command = [sys.executable, "-m", "segjax.cli.main", "plan", "--config=tiny.py", "--classes=3", "--output=out"]
    done = subprocess.run([*command, "--topology=v5e:2x2"], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert {row["name"] for row in record["timing"]["estimators"]} == {"arithmetic", "traffic", "rooflines", "cycles"}
    low, high = record["timing"]["seconds"]
    assert 0 < low < high
    assert sum(record["memory"]["parts"].values()) == record["memory"]["needed"]
    assert record["memory"]["parts"]["parameters"] == 4 * record["parameters"]
    assert record["unpriced"]
    assert any(row["module"].startswith("UNet/") for row in record["operations"])


@pytest.mark.slow
def test_a_batch_too_large_is_told_with_what_would_fit(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG)
    command = [sys.executable, "-m", "segjax.cli.main", "plan", "--config=tiny.py", "--classes=3", "--output=out"]
    command += ["--topology=v5e:2x2", f"--config.train.batch_size={2**22}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1, done.stderr[-2000:]
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    memory, found = record["memory"], record["would_fit"]
    assert memory["needed"] > 1.25 * memory["available"]
    assert memory["without_recomputation"] is None  # nor was it tried
    assert found["compiled"][str(found["batch_size"])] <= memory["available"]
    assert f"config.train.batch_size={found['batch_size']} fits" in done.stdout
