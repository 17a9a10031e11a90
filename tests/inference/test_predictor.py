from __future__ import annotations

import dataclasses
import inspect

import jax
import numpy as np
import pytest
from PIL import Image

from segjax.core.errors import ConfigError, DataError, ModelError, SizeError
from segjax.core.schema import IGNORE
from segjax.inference.engine import Engine
from segjax.inference.predictor import Predictor
from tests.inference.pixel_network import INFO, PixelNet, images, variables


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(PixelNet(), variables(), INFO, batch_size=3)


def _expected(batch: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    x = (batch.astype(np.float64) - INFO.mean) / INFO.std
    return (x @ kernel).argmax(-1)


def test_labels_are_the_argmax_of_the_normalised_image(predictor: Predictor) -> None:
    image = images(1, 9, 14)[0]
    prediction = predictor(image)
    assert prediction.labels.shape == (9, 14)
    assert prediction.labels.dtype == np.uint8
    np.testing.assert_array_equal(prediction.labels, _expected(image, predictor.variables["params"]["kernel"]))


def test_batch_marks_what_lies_outside_an_image(predictor: Predictor) -> None:
    batch = images(3, 12, 16)
    sizes = np.array([[12, 16], [7, 9], [0, 0]], np.int32)
    labels = np.asarray(predictor.predict_batch(batch, sizes))
    expected = _expected(batch, predictor.variables["params"]["kernel"])
    np.testing.assert_array_equal(labels[0], expected[0])
    np.testing.assert_array_equal(labels[1, :7, :9], expected[1, :7, :9])
    assert (labels[1, 7:] == IGNORE).all()
    assert (labels[1, :, 9:] == IGNORE).all()
    assert (labels[2] == IGNORE).all()


def test_what_the_padding_holds_does_not_matter() -> None:
    predictor = Predictor(PixelNet(context=True), variables(), INFO)
    batch = images(2, 12, 16)
    sizes = np.array([[10, 11], [8, 16]], np.int32)
    other = batch.copy()
    other[0, 10:], other[0, :, 11:], other[1, 8:] = 0, 255, 7
    labels = np.asarray(predictor.predict_batch(batch, sizes))
    np.testing.assert_array_equal(labels, predictor.predict_batch(other, sizes))


def test_probabilities_and_entropy(predictor: Predictor) -> None:
    image = images(1, 6, 7)[0]
    prediction = predictor(image, probabilities=True)
    p = prediction.probabilities
    assert p.shape == (6, 7, 4)
    np.testing.assert_allclose(p.sum(-1), 1, atol=1e-6)
    np.testing.assert_array_equal(p.argmax(-1), prediction.labels)
    p = p.astype(np.float64)
    np.testing.assert_allclose(prediction.entropy, -(p * np.log(p)).sum(-1), atol=1e-5)
    with pytest.raises(ConfigError, match="probabilities=True"):
        _ = predictor(image).entropy


def test_asking_for_probabilities_changes_no_label(predictor: Predictor) -> None:
    batch = images(3, 16, 16)
    labels, _ = predictor.score_batch(batch)
    np.testing.assert_array_equal(labels, predictor.predict_batch(batch))


def test_same_padded_size_is_compiled_once() -> None:
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Counting(PixelNet):
        def apply(self, weights, views, train):
            traces.append(views.shape)
            return super().apply(weights, views, train)

    predictor = Predictor(Counting(), variables(), INFO)
    for height in (5, 6, 7, 8):
        predictor(images(1, height, 8)[0])
    predictor.with_variables(variables(1))(images(1, 8, 8)[0])
    assert traces == [(1, 8, 8, 3)]


def test_with_variables_uses_the_other_parameters(predictor: Predictor) -> None:
    image = images(1, 8, 8)[0]
    other = predictor.with_variables(variables(1))
    np.testing.assert_array_equal(other(image).labels, _expected(image, variables(1)["params"]["kernel"]))


@pytest.mark.parametrize("settings", [{"window": (8, 8)}, {"flip": True}, {"window": (8, 8), "flip": True}])
def test_windows_and_mirroring_leave_a_pixelwise_network_alone(predictor: Predictor, settings: dict) -> None:
    batch = images(2, 16, 20)
    other = Predictor(PixelNet(), variables(), INFO, **settings)
    labels, scores = other.score_batch(batch)
    whole, plain_scores = predictor.score_batch(batch)
    np.testing.assert_allclose(scores, plain_scores, atol=1e-5)
    assert np.mean(np.asarray(labels) != np.asarray(whole)) < 0.01


def test_image_files(predictor: Predictor, tmp_path) -> None:
    image = images(1, 8, 12)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(predictor(tmp_path / "a.png").labels, predictor(image).labels)
    grey = np.repeat(image[..., :1], 3, axis=-1)
    Image.fromarray(image[..., 0]).save(tmp_path / "grey.png")
    for given in (str(tmp_path / "grey.png"), image[..., 0], image[..., :1]):  # repeated, as in training
        np.testing.assert_array_equal(predictor(given).labels, predictor(grey).labels)
    Image.fromarray(np.concatenate([image, image[..., :1]], -1)).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(predictor(tmp_path / "alpha.png").labels, predictor(image).labels)
    with pytest.raises(DataError, match=r"4 channels; the network expects 3.*image\[\.\.\., :-1\]"):
        predictor(np.zeros((8, 8, 4), np.uint8))


def test_grey_and_many_channel_networks() -> None:
    for channels in (1, 5):
        info = dataclasses.replace(INFO, channels=channels, mean=(9.0,) * channels, std=(3.0,) * channels)
        predictor = Predictor(PixelNet(), variables(channels=channels), info)
        image = images(1, 8, 8, channels=channels)[0]
        assert predictor(image[..., 0] if channels == 1 else image).labels.shape == (8, 8)
    with pytest.raises(DataError, match="3 channels; the network expects 5"):
        predictor(images(1, 8, 8)[0])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8, 3), np.uint16), "uint16 pixels, the network was trained on uint8"),
        (np.full((8, 8, 3), 0.5, np.float32), "multiply by 255"),
        (np.full((8, 8, 3), 300.0, np.float32), "values outside those of uint8"),
        (np.full((8, 8, 3), np.nan, np.float32), "values outside those of uint8"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"shape \[2, 8, 8, 3\]"),
    ],
)
def test_images_of_another_kind_are_refused(predictor: Predictor, image: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        predictor(image)


def test_float_images_in_pixel_units_are_rounded(predictor: Predictor) -> None:
    image = images(1, 8, 8)[0]
    np.testing.assert_array_equal(predictor(image + np.float32(0.2)).labels, predictor(image).labels)


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match=r"num_classes=7.*'toy' has 4"):
        Predictor(PixelNet(num_classes=7), variables(), INFO)
    with pytest.raises(ConfigError, match="scales"):
        Predictor(PixelNet(), variables(), INFO, scales=())
    with pytest.raises(SizeError, match="use 12x8"):
        Predictor(PixelNet(), variables(), INFO, window=(10, 8))


def test_record_of_settings_names_constructor_arguments(predictor: Predictor) -> None:
    taken = {name for kind in (Predictor, Engine) for name in inspect.signature(kind).parameters}
    assert set(predictor.settings()) <= taken


def test_mesh_of_one_device_gives_the_same_labels(predictor: Predictor) -> None:
    from segjax.parallel.mesh import make_mesh

    batch = images(2, 8, 8)
    mesh = make_mesh(devices=jax.devices()[:1])
    spread = Predictor(PixelNet(), variables(), INFO, mesh=mesh)
    np.testing.assert_array_equal(spread.predict_batch(batch), predictor.predict_batch(batch))
