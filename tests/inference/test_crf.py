"""The dense CRF after a network: the operation it stands for, images padded in a batch, and what it refuses."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from segjax.core.errors import ConfigError, SizeError
from segjax.core.schema import IGNORE
from segjax.inference.crf import refine
from segjax.inference.predictor import Predictor
from segjax.ops.crf.mean_field import CRFParams, dense_crf
from segjax.tasks.semantic.config import CRF
from tests.inference.pixel_network import INFO, PixelNet, variables

SETTINGS = CRF(
    enabled=True, theta_alpha=10.0, theta_beta=20.0, theta_gamma=2.0, w_bilateral=4.0, w_spatial=1.0, iterations=3
)


def _picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Two regions with noise, so that neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, channels), 90)
    image[:, width // 2 :] = 170
    return (image + rng.normal(0, 15, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", [pytest.param("lattice", marks=pytest.mark.slow), "exact", "grid", "local"])
def test_padding_changes_nothing(method: str) -> None:
    """A batch of an image that fills it, one that is padded on both sides, and one that is not there."""
    settings = dataclasses.replace(SETTINGS, method=method)
    sizes = [(12, 20), (9, 13), (0, 0)]
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (3, 12, 20, 3), dtype=np.uint8)  # garbage where nothing is written
    logits = rng.normal(0, 3, (3, 12, 20, 4)).astype(np.float32)
    for i, (height, width) in enumerate(sizes):
        images[i, :height, :width] = _picture(height, width, i)
    found, overflow, _ = jax.jit(lambda *a: refine(*a, settings, INFO))(logits, images, np.asarray(sizes))
    assert not overflow
    assert np.isfinite(found).all()
    for i, (height, width) in enumerate(sizes[:2]):
        alone = dense_crf(
            logits[i, :height, :width],
            images[i, :height, :width],
            CRFParams(10.0, 20.0, 2.0, 4.0, 1.0),
            iterations=3,
            method=method,
        )
        np.testing.assert_allclose(found[i, :height, :width], alone, rtol=1e-4, atol=1e-3)


def test_a_predictor_smooths_with_its_image_and_records_how() -> None:
    image = _picture(24, 32)
    plain = Predictor(PixelNet(), variables(), INFO)
    settings = dataclasses.replace(SETTINGS, theta_beta=60.0, w_bilateral=10.0, method="exact")
    crf = Predictor(PixelNet(), variables(), INFO, crf=settings)
    before, after = plain(image).labels, crf(image, probabilities=True)
    assert np.mean(before[:, :16] != np.bincount(before[:, :16].ravel()).argmax()) > 0.1
    changes = [np.count_nonzero(np.diff(labels.astype(int))) for labels in (before, after.labels)]
    assert changes[1] < changes[0] / 3
    np.testing.assert_array_equal(after.labels, crf(image).labels)
    np.testing.assert_array_equal(after.labels, after.probabilities.argmax(-1))
    np.testing.assert_allclose(after.probabilities.sum(-1), 1, atol=1e-5)
    assert crf.settings()["crf"] == dataclasses.asdict(settings)
    assert plain.settings()["crf"] is None
    assert Predictor(PixelNet(), variables(), INFO, crf=CRF()).settings()["crf"] is None

    padded = np.zeros((1, 32, 36, 3), np.uint8)
    padded[0, :24, :32] = image
    labels = np.asarray(crf.predict_batch(padded, np.array([[24, 32]])))[0]
    np.testing.assert_array_equal(labels[:24, :32], after.labels)
    assert (labels[24:] == IGNORE).all()
    assert (labels[:, 32:] == IGNORE).all()


@pytest.mark.parametrize("seen", [{"scales": (0.5, 1.0), "flip": True}, {"window": (16, 16)}])
def test_scales_mirroring_and_windows_come_before_it(seen: dict) -> None:
    """The marginals are those of the averaged probabilities' logarithm."""
    image = _picture(24, 32)
    views = Predictor(PixelNet(), variables(), INFO, **seen)(image, probabilities=True)
    settings = dataclasses.replace(SETTINGS, method="exact")
    refined = Predictor(PixelNet(), variables(), INFO, crf=settings, **seen)(image, probabilities=True)
    expected = dense_crf(
        np.log(views.probabilities),
        image,
        CRFParams(10.0, 20.0, 2.0, 4.0, 1.0),
        iterations=3,
        method="exact",
        output="probs",
    )
    np.testing.assert_allclose(refined.probabilities, expected, atol=1e-3)


def test_images_of_one_and_five_channels() -> None:
    for channels, beta in ((1, 20.0), (5, (20.0,) * 5)):
        info = dataclasses.replace(INFO, channels=channels, mean=(90.0,) * channels, std=(50.0,) * channels)
        settings = dataclasses.replace(SETTINGS, theta_beta=beta, method="exact")
        predictor = Predictor(PixelNet(), variables(channels=channels), info, crf=settings)
        assert predictor(_picture(8, 12, channels=channels)).labels.shape == (8, 12)


def test_what_cannot_work_is_one_line() -> None:
    def predictor(info=INFO, **changes) -> Predictor:
        return Predictor(PixelNet(), variables(), info, crf=dataclasses.replace(SETTINGS, **changes))

    with pytest.raises(ConfigError, match="theta_beta: 2 numbers for images of 3 channels"):
        predictor(theta_beta=(1.0, 2.0))
    with pytest.raises(ConfigError, match="grid needs pixels of a known range"):
        predictor(dataclasses.replace(INFO, image_dtype="float32"), method="grid")
    with pytest.raises(SizeError, match=r"the lattice overflowed with \d+ vertices; set capacity") as error:
        predictor(capacity=10)(_picture(12, 16))
    assert "\n" not in str(error.value)
