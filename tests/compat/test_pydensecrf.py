"""The facade against what pydensecrf computed (tests/ops/crf/pydensecrf.npz), and its utilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import segjax.compat.pydensecrf as dcrf
from segjax.core.errors import ModelError, SizeError

REFERENCE = np.load(Path(__file__).parents[1] / "ops" / "crf" / "pydensecrf.npz")
EXAMPLES = Path(__file__).parents[3] / "shared" / "data" / "fixtures" / "dense_crf"


def small_crf() -> tuple[dcrf.DenseCRF2D, np.ndarray]:
    logits, image = REFERENCE["logits"], REFERENCE["image"]
    height, width, classes = logits.shape
    crf = dcrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(-logits.reshape(-1, classes).T)
    return crf, image


def image_of(q: np.ndarray) -> np.ndarray:
    return q.T.reshape(REFERENCE["logits"].shape)


def test_the_usual_call():
    crf, image = small_crf()
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    q = crf.inference(5)
    assert q.dtype == np.float32
    np.testing.assert_allclose(image_of(q), REFERENCE["q0"], atol=1e-3)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", ["none", pytest.param("before", marks=SLOW), pytest.param("after", marks=SLOW)])
def test_normalisations_anisotropy_diagonal_and_matrix_compatibility_stepwise(name):
    crf, image = small_crf()
    normalization = {"before": dcrf.NORMALIZE_BEFORE, "after": dcrf.NORMALIZE_AFTER, "none": dcrf.NO_NORMALIZATION}
    scale = 1e-3 if name == "none" else 1.0
    matrix = (np.arange(16).reshape(4, 4) % 5 - 3).astype(np.float32) * scale
    diagonal = np.arange(1, 5).astype(np.float32) * -scale
    crf.addPairwiseGaussian((3, 2), diagonal, normalization=normalization[name])
    crf.addPairwiseBilateral((40, 30), (13, 11, 9), image, matrix, normalization=normalization[name])
    np.testing.assert_allclose(image_of(crf.inference(3)), REFERENCE[f"q_{name}"], atol=1e-3)
    q, tmp1, tmp2 = crf.startInference()
    crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_allclose(crf.klDivergence(q), REFERENCE[f"kl_{name}"], rtol=1e-4)
    for _ in range(2):
        crf.stepInference(q, tmp1, tmp2)
    np.testing.assert_allclose(image_of(q), REFERENCE[f"q_{name}"], atol=1e-3)


@pytest.mark.slow
def test_the_example_script_draws_the_same_labels():
    """pydensecrf's examples/inference.py on its third image: generic features, made by the utilities."""
    if not EXAMPLES.is_dir():
        pytest.skip(f"{EXAMPLES} is absent")
    read = lambda name: np.asarray(Image.open(EXAMPLES / name).convert("RGB"))  # noqa: E731
    image, annotation, expected = read("im3.png"), read("anno3.png"), read("out3.png")
    colours, labels = np.unique(annotation.reshape(-1, 3), axis=0, return_inverse=True)
    crf = dcrf.DenseCRF(labels.size, len(colours) - 1)
    crf.setUnaryEnergy(dcrf.unary_from_labels(labels, len(colours) - 1, gt_prob=0.7))
    crf.addPairwiseEnergy(dcrf.create_pairwise_gaussian((3, 3), image.shape[:2]), compat=3)
    crf.addPairwiseEnergy(dcrf.create_pairwise_bilateral((80, 80), (13, 13, 13), image, chdim=2), compat=10)
    drawn = colours[1:][crf.inference(5).argmax(0)].reshape(image.shape)
    assert (drawn == expected).all(-1).mean() >= 0.9999


def test_unaries():
    softmax = np.array([[[0.7, 0.0]], [[0.3, 1.0]]])
    energy = dcrf.unary_from_softmax(softmax)
    np.testing.assert_allclose(energy, -np.log([[0.7, 1e-5], [0.3, 1.0]]), rtol=1e-6)
    np.testing.assert_allclose(
        dcrf.unary_from_softmax(softmax, scale=0.5), -np.log([[0.6, 0.25], [0.4, 0.75]]), rtol=1e-6
    )
    labels = np.array([[0, 1], [2, 3]])
    expected = -np.log([[1 / 3, 0.6, 0.2, 0.2], [1 / 3, 0.2, 0.6, 0.2], [1 / 3, 0.2, 0.2, 0.6]])
    np.testing.assert_allclose(dcrf.unary_from_labels(labels, 3, 0.6), expected, rtol=1e-6)
    np.testing.assert_allclose(dcrf.unary_from_labels(labels - 1, 3, 0.6, zero_unsure=False)[:, 1:], expected[:, 1:])


def test_features_of_grey_volumes():
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    features = dcrf.create_pairwise_bilateral((1, 2, 4), 0.5, volume)
    assert features.shape == (4, 24)
    np.testing.assert_array_equal(features[:, 17], [1, 1 / 2, 1 / 4, 34])


def test_bad_input_is_named():
    crf, image = small_crf()
    with pytest.raises(SizeError, match=r"Bad shape for unary energy \(Need \(4, 1728\)"):
        crf.setUnaryEnergy(np.zeros((3, 1728), np.float32))
    with pytest.raises(SizeError, match=r"Bad shape for pairwise bilateral \(Need \(36, 48, 3\)"):
        crf.addPairwiseBilateral(80, 13, image[1:], 10)
    with pytest.raises(SizeError, match="Bad shape for pairwise energy"):
        crf.addPairwiseEnergy(np.zeros((2, 3)), 10)
    with pytest.raises(ModelError, match="sxy="):
        crf.addPairwiseGaussian(0, 3)
    with pytest.raises(ModelError, match="dtype float32"):
        crf.addPairwiseBilateral(80, 13, image.astype(np.float32), 10)
    with pytest.raises(ModelError, match="normalization=7"):
        crf.addPairwiseGaussian(3, 3, normalization=7)
    with pytest.raises(SizeError, match=r"compat has shape \(3,\)"):
        crf.addPairwiseGaussian(3, np.zeros(3))
    with pytest.raises(ModelError, match="gt_prob=1"):
        dcrf.unary_from_labels(np.zeros(3, int), 2, 1.0)
