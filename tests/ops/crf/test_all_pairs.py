"""The exact filter as `build_filter` uses it: accuracy, gradients, the choice of program, and devices."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax.core.errors import SizeError
from segjax.ops.crf import exact_pallas
from segjax.ops.crf.all_pairs import all_pairs_filter
from segjax.ops.crf.features import bilateral_features
from tests.ops.crf.gaussian_sums import kernel
from tests.ops.crf.machines import machine

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("target", [None, "tpu", "gpu"])
def test_filtered_means_are_within_1e4_of_float64(target, monkeypatch):
    """Row-normalised, with the bandwidths in use (80, 13), (67, 4) and (160, 3), as one batch."""
    monkeypatch.setattr(exact_pallas, "_LIMITS", exact_pallas._LIMITS | {"tpu": exact_pallas._Limits(128, 128, 64)})
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:14, :19]
    image = np.stack([120 + 20 * np.sin(x / 5), 230 - y, 9 + x + 3 * (y > 6)], -1) + rng.normal(0, 1, (14, 19, 3))
    image = image.clip(0, 255).astype(np.uint8)
    features = jnp.stack([bilateral_features(image, *theta) for theta in ((80, 13), (67, 4), (160, 3))])
    marginals = rng.dirichlet(np.full(21, 0.3), x.size)
    values = np.concatenate([marginals, np.ones((x.size, 1))], 1).astype(np.float32)
    out = np.asarray(jax.jit(lambda f, v: all_pairs_filter(f, v, interpret=target))(features, np.stack([values] * 3)))
    for i in range(3):
        matrix = kernel(features[i])
        assert 5 < matrix.sum(1).mean() < 200  # neither the identity nor flat
        expected = matrix @ values / matrix.sum(1, keepdims=True)
        np.testing.assert_allclose(out[i] / out[i, :, -1:], expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("target", [None, "tpu", "gpu"])
def test_gradients_are_those_of_float64(target):
    rng = np.random.default_rng(0)
    features = rng.normal(40, 2, (2, 90, 3)).astype(np.float32)
    values, weight = (rng.normal(size=(2, 90, 4)).astype(np.float32) for _ in range(2))

    def total(features, values):
        out = all_pairs_filter(features, values, interpret=target)
        return jnp.vdot(out, weight), out

    (_, out), (in_features, in_values) = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(features, values)
    for i in range(2):
        f, v, w = (x[i].astype(np.float64) for x in (features, values, weight))
        matrix = kernel(f)
        pairs = matrix * (w @ v.T + v @ w.T)
        for got, expected in (
            (out[i], matrix @ v),
            (in_values[i], matrix @ w),
            (in_features[i], pairs @ f - pairs.sum(1)[:, None] * f),
        ):
            np.testing.assert_allclose(got, expected, rtol=0, atol=5e-5 * abs(expected).max())


def test_each_platform_has_its_program():
    shapes = [jax.ShapeDtypeStruct((1, 300, n), jnp.float32) for n in (5, 3)]
    program = jax.jit(jax.grad(lambda f, v: all_pairs_filter(f, v).sum(), (0, 1)))
    markers = {"cpu": "no kernel", "cuda": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}
    for platform, marker in markers.items():
        with machine(platform):
            text = program.trace(*shapes).lower(lowering_platforms=(platform,)).as_text()
        assert {m for m in markers.values() if m in text} == {marker} - {"no kernel"}, platform
    many = jax.ShapeDtypeStruct((1, 300, 17), jnp.float32)
    assert (
        markers["tpu"] not in jax.jit(all_pairs_filter).trace(many, many).lower(lowering_platforms=("tpu",)).as_text()
    )


def test_dtypes():
    rng = np.random.default_rng(0)
    features, values = rng.normal(size=(1, 40, 2)), rng.normal(size=(1, 40, 3))
    narrow = all_pairs_filter(jnp.asarray(features, jnp.float32), jnp.asarray(values, jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    with jax.enable_x64(True):
        wide = jax.jit(all_pairs_filter)(features, values)
    np.testing.assert_allclose(wide[0], kernel(features[0]) @ values[0], rtol=1e-12)


@pytest.mark.parametrize("shapes", [((1, 4, 2), (1, 5, 2)), ((2, 4, 2), (1, 4, 2)), ((4, 2), (4, 2))])
def test_shapes_that_do_not_fit_are_named(shapes):
    with pytest.raises(SizeError, match=r"features \(.*\) and values \(.*\): give \[B, N, d\]"):
        all_pairs_filter(*map(jnp.zeros, shapes))


def test_eight_devices_filter_their_own_images_and_rows():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run(
        [sys.executable, str(HERE / "split_exact.py")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    assert len(record) == 6
    for case, difference in record.items():
        assert difference < (1e-6 if case.endswith("None") else 5e-5), case
