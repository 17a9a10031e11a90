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
from segjax.core.errors import ConfigError
from segjax.parallel.mesh import make_mesh
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
try:
    open_topology("v5e:1x1")
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


def test_every_generation_has_the_devices_its_name_says():
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
def test_a_batch_that_the_compiler_refuses_is_told_with_one_that_fits(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG.replace("32, 32", "256, 256"))
    command = [sys.executable, "-m", "segjax.cli.main", "plan", "--config=tiny.py", "--classes=3", "--output=out"]
    command += ["--topology=v5e:2x2", "--config.train.batch_size=8192"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 1, done.stderr[-2000:]
    record = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert not record["fits"]
    assert record["memory"]["available"] == pytest.approx(15.75 * 2**30)
    assert record["would_fit"]["compiled"][str(record["would_fit"]["batch_size"])] <= record["memory"]["available"]
