"""The kernels, interpreted, against all pairs in float64; and compiled for the machines they are for."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.ops.crf import exact_pallas
from segjax.ops.crf.exact_pallas import feature_pull, filter_sums
from tests.ops.crf.gaussian_sums import kernel
from tests.ops.crf.machines import machine

ROOT = pathlib.Path(__file__).parents[3]
TARGETS = ("tpu", "gpu")


@pytest.fixture
def small_tiles(monkeypatch):
    """Several tiles a side, and of channels, from few points: the interpreter is slow."""
    limits = {"tpu": exact_pallas._Limits(128, 128, 8), "gpu": exact_pallas._Limits(32, 16, 8)}
    monkeypatch.setattr(exact_pallas, "_LIMITS", limits)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n", "d", "channels"), [(150, 150, 5, 3), (131, 270, 2, 1), (1, 33, 7, 19)])
def test_interpreted_kernels_are_the_all_pairs_sums(target, m, n, d, channels):
    """Far from the origin, where squares would cancel. The bound is that of products of two numbers in two parts."""
    rng = np.random.default_rng(0)
    rows, columns = ((rng.normal(0, 1.5, (2, points, d)) + 60).astype(np.float32) for points in (m, n))
    left, right = (rng.normal(size=(2, points, channels)).astype(np.float32) for points in (m, n))
    run = dict(target=target, interpret=True)
    sums = jax.jit(lambda *arrays: filter_sums(*arrays, **run))(rows, columns, right)
    pull = jax.jit(lambda *arrays: feature_pull(*arrays, **run))(rows, left, columns, right)
    for i in range(2):
        matrix = kernel(np.concatenate([rows[i], columns[i]]))[:m, m:]
        scale = matrix @ abs(right[i]).astype(np.float64)
        assert (abs(sums[i] - matrix @ right[i]) <= 4e-5 * scale + 1e-12).all()
        difference = columns[i].astype(np.float64) - rows[i].astype(np.float64)[:, None]
        products = np.stack([left[i], abs(left[i])]).astype(np.float64) @ np.stack([right[i], abs(right[i])]).mT
        expected = np.einsum("ij,ijd->id", matrix * products[0], difference)
        scale = np.einsum("ij,ijd->id", matrix * products[1], abs(difference))
        assert (abs(pull[i] - expected) <= 4e-5 * scale + 1e-12).all()


COMPILE = """
import sys
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from segjax.ops.crf.all_pairs import all_pairs_filter
from segjax.parallel.mesh import make_mesh
from segjax.planning.topology import open_topology

where = open_topology(sys.argv[1])
mesh = make_mesh(data=2, spatial=2, devices=where.devices)
shapes = [
    jax.ShapeDtypeStruct((2, 1501, n), jnp.float32, sharding=NamedSharding(mesh, P("data"))) for n in (5, 21)
]
loss = lambda features, values: (all_pairs_filter(features, values) ** 2).sum()
with jax.set_mesh(mesh):
    traced = jax.jit(jax.value_and_grad(loss, (0, 1))).trace(*shapes)
text = traced.lower(lowering_platforms=(where.platform,)).compile().as_text()
for kernel in ("crf_filter_sums", "crf_feature_pull"):
    assert kernel in text, text
print("compiled")
"""


def compile_for(topology: str, timeout: int) -> None:
    """The filter and both gradients, for four devices of another machine."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMPILE, topology]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.stdout.endswith("compiled\n"), done.stderr[-2000:]


@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu: pip install 'jax[tpu]'")
def test_kernels_compile_ahead_of_time_for_tpu():
    compile_for("v5e:2x2", timeout=120)


@pytest.mark.skipif(not importlib.util.find_spec("jax_cuda13_plugin"), reason="needs jax-cuda13-plugin and its pjrt")
def test_kernels_compile_ahead_of_time_for_gpu():
    compile_for("cuda:h100:4", timeout=120)


@pytest.mark.parametrize(("platform", "marker"), [("cuda", "__gpu$xla.gpu.triton"), ("tpu", "tpu_custom_call")])
def test_kernels_lower(platform, marker):
    target = "gpu" if platform == "cuda" else "tpu"
    features, values, wide = (jax.ShapeDtypeStruct((2, 333, n), jnp.float32) for n in (5, 21, 70))

    def both(features, values, wide):
        return filter_sums(features, features, wide, target=target), feature_pull(
            features, values, features, values, target=target
        )

    with machine(platform):
        lowered = jax.jit(both).trace(features, values, wide).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count(marker) >= 2
