"""Mean field against float64 numpy and against pydensecrf; gradients against finite differences."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from segjax.core.errors import ModelError, SizeError
from segjax.ops.crf.features import bilateral_features, spatial_features
from segjax.ops.crf.mean_field import CRFParams, dense_crf
from tests.ops.crf.gaussian_sums import kernel, mean_field, normalised, softmax

# pydensecrf 2723c7f, 5 iterations. `image`, `logits`, `q0..q2`: a small image. `mapI_J`, `someI_J`: labels, and Q at
# every 101st pixel, of its own example image I, unaries from the annotation with gt_prob = 0.7.
REFERENCE = np.load(Path(__file__).parent / "pydensecrf.npz")
SETS = ((80.0, 13.0, 10.0), (67.0, 4.0, 5.0), (160.0, 3.0, 5.0))
EXAMPLES = Path(__file__).parents[4] / "shared" / "data" / "fixtures" / "dense_crf"


def scene(height=7, width=9, classes=3):
    rng = np.random.default_rng(0)
    image = rng.integers(90, 130, (height, width, 3)).astype(np.uint8)
    return rng.normal(size=(height, width, classes)), image


def matrices(rng, classes):
    return [rng.normal(size=(classes, classes)) for _ in range(3)]


def numpy_crf(logits, image, params: CRFParams, normalization="symmetric", iterations=5, exclude_self=False):
    height, width, classes = logits.shape
    square = lambda w: w * np.eye(classes) if np.ndim(w) < 2 else np.asarray(w)  # noqa: E731
    smooth = kernel(spatial_features(height, width, params.theta_gamma), exclude_self)
    bilateral = kernel(bilateral_features(jnp.asarray(image), params.theta_alpha, params.theta_beta), exclude_self)
    kernels = [
        (normalised(smooth, normalization), square(params.w_spatial)),
        (normalised(bilateral, normalization), square(params.w_bilateral)),
    ]
    q = mean_field(logits.reshape(-1, classes), kernels, square(params.compat), iterations)
    return q.reshape(logits.shape)


@pytest.mark.parametrize("normalization", ["symmetric", "before", "after", "none"])
def test_the_algorithm_with_learnt_matrices(normalization):
    logits, image = scene()
    weights = [0.05 * m for m in matrices(np.random.default_rng(1), 3)]
    params = CRFParams(8.0, 20.0, 2.0, *weights)
    out = dense_crf(logits.astype(np.float32), image, params, method="exact", normalization=normalization)
    np.testing.assert_allclose(out, numpy_crf(logits, image, params, normalization), rtol=1e-4, atol=1e-4)


def test_defaults_are_potts_and_exclude_self_is_the_papers():
    logits, image = scene()
    for exclude_self in (False, True):
        out = dense_crf(logits.astype(np.float32), image, exclude_self=exclude_self, output="probs", iterations=3)
        expected = softmax(numpy_crf(logits, image, CRFParams(), iterations=3, exclude_self=exclude_self))
        np.testing.assert_allclose(out, expected, atol=1e-4)
    np.testing.assert_allclose(dense_crf(logits, image, iterations=0), logits, rtol=1e-6)


def test_a_batch_under_jit_is_its_images():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(8, 12, 10, 3)).astype(np.float32)
    images = rng.integers(0, 255, (8, 1, 1, 3)) // 2 + rng.integers(0, 60, (8, 12, 10, 3))
    run = jax.jit(lambda logits, image: dense_crf(logits, image, method="lattice"))
    batched = run(logits, images.astype(np.uint8))
    for i in (0, 7):
        one = dense_crf(logits[i], images[i].astype(np.uint8), method="lattice")
        np.testing.assert_allclose(batched[i], one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["exact", "local", "lattice"])
def test_gradients_are_finite_differences_in_float64(method):
    with jax.enable_x64(True):
        logits, image = scene(6, 5)
        rng = np.random.default_rng(3)
        w_spatial, w_bilateral, compat = (np.eye(3) + 0.1 * m for m in matrices(rng, 3))
        target = rng.normal(size=logits.shape)
        # Bandwidths as well, except where the lattice is only piecewise smooth in them.
        thetas = np.array([8.0, 20.0, 2.0])
        wanted = {"logits": logits, "w_spatial": w_spatial, "w_bilateral": w_bilateral, "compat": -compat}
        wanted["thetas"] = thetas[2:] if method == "lattice" else thetas

        @jax.jit
        def loss(x):
            alpha, beta, gamma = [8.0, 20.0, x["thetas"][0]] if method == "lattice" else x["thetas"]
            params = CRFParams(alpha, beta, gamma, x["w_bilateral"], x["w_spatial"], x["compat"])
            options = {"window": 5} if method == "local" else {}
            out = dense_crf(x["logits"], image, params, iterations=3, method=method, output="probs", **options)
            return jnp.sum(target * out)

        slopes = jax.jit(jax.grad(loss))(wanted)
        for name, value in wanted.items():
            step = rng.normal(size=value.shape)
            h = 1e-5
            ends = [loss({**wanted, name: value + sign * h * step}) for sign in (1, -1)]
            expected = (ends[0] - ends[1]) / (2 * h)
            np.testing.assert_allclose(jnp.vdot(slopes[name], step), expected, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("index", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_lattice_is_pydensecrf_on_a_small_image(index):
    alpha, beta, weight = SETS[index]
    params = CRFParams(alpha, beta, 3.0, weight, 3.0)
    q = dense_crf(REFERENCE["logits"], REFERENCE["image"], params, method="lattice", spatial="lattice", output="probs")
    expected = REFERENCE[f"q{index}"]
    np.testing.assert_array_equal(np.argmax(q, -1), expected.argmax(-1))
    np.testing.assert_allclose(q, expected, atol=1e-3)


@pytest.mark.parametrize(
    "example", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_lattice_is_pydensecrf_on_its_own_examples(example):
    """Acceptance: the labels agree on 99.99 % of pixels, Q differs by at most 1e-3."""
    if not EXAMPLES.is_dir():
        pytest.skip(f"{EXAMPLES} is absent")
    image = np.asarray(Image.open(EXAMPLES / f"im{example}.png").convert("RGB"))
    logits = annotation_logits(np.asarray(Image.open(EXAMPLES / f"anno{example}.png").convert("RGB")))

    @jax.jit
    def run(alpha, beta, weight):  # traced bandwidths: one program for the three sets
        params = CRFParams(alpha, beta, 3.0, weight, 3.0)
        return dense_crf(logits, image, params, method="lattice", spatial="lattice", output="probs")

    for index, values in enumerate(SETS):
        q = np.asarray(run(*values)).reshape(-1, logits.shape[-1])
        agreement = (q.argmax(-1) == REFERENCE[f"map{example}_{index}"]).mean()
        assert agreement >= 0.9999, (values, agreement)
        np.testing.assert_allclose(q[::101], REFERENCE[f"some{example}_{index}"], atol=1e-3)


def annotation_logits(annotation: np.ndarray, certainty: float = 0.7) -> np.ndarray:
    """pydensecrf's `unary_from_labels`, negated; black is unknown, the classes are in order of blue, green, red."""
    _, labels = np.unique(annotation @ np.array([1, 1 << 8, 1 << 16]), return_inverse=True)
    labels = labels.reshape(annotation.shape[:2])
    classes = labels.max()
    logits = np.full((*labels.shape, classes), np.log((1 - certainty) / (classes - 1)), np.float32)
    for k in range(classes):
        logits[labels == k + 1, k] = np.log(certainty)
    logits[labels == 0] = np.log(1 / classes)
    return logits


def test_bad_input_is_named():
    logits, image = scene()
    with pytest.raises(SizeError, match=r"logits \(7, 9, 3\) and image \(6, 9, 3\)"):
        dense_crf(logits, image[1:])
    with pytest.raises(ModelError, match="theta_alpha=-3"):
        dense_crf(logits, image, CRFParams(theta_alpha=-3.0))
    with pytest.raises(ModelError, match="output='prob'"):
        dense_crf(logits, image, output="prob")
    with pytest.raises(ModelError, match="spatial='box'"):
        dense_crf(logits, image, spatial="box")
    with pytest.raises(ModelError, match="iterations=-1"):
        dense_crf(logits, image, iterations=-1)
    with pytest.raises(SizeError, match="overflowed"):
        dense_crf(logits, image, CRFParams(4.0, 3.0), method="lattice", capacity=5)


def test_nan_in_is_nan_out():
    logits, image = scene()
    broken = logits.copy()
    broken[2, 3, 0] = np.nan
    assert np.isnan(dense_crf(broken, image, method="lattice")[2, 3]).all()
    noisy = image.astype(np.float32)
    noisy[1, 1, 1] = np.nan
    with pytest.raises(SizeError, match="not finite"):
        dense_crf(logits, noisy, method="lattice")
    assert np.isnan(dense_crf(logits, noisy, method="exact")).any()
