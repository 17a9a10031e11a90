from __future__ import annotations

import jax
import numpy as np
import pytest

from segjax.core.schema import LOGITS
from segjax.inference.tta import average_views, single_view
from tests.inference.pixel_network import PixelNet, images, variables


def _network(context: bool):
    weights = variables()
    return lambda views: PixelNet(context=context).apply(weights, views, train=False)[LOGITS].upsample()


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_flip_averages_the_probabilities_of_both_ways() -> None:
    x = images(2, 8, 12).astype(np.float32) / 50

    # Lopsided on purpose: a network equal to its own mirror image would hide a missing flip.
    def network(views):
        return _network(False)(views) * jax.numpy.linspace(0, 1, views.shape[2])[None, None, :, None]

    seen = average_views(network, x, scales=(1.0,), flip=True, stride=4)
    there = _softmax(np.asarray(network(x), np.float64))
    back = _softmax(np.asarray(network(x[:, :, ::-1]), np.float64))[:, :, ::-1]
    assert np.abs(there - back).max() > 0.1
    np.testing.assert_allclose(seen, (there + back) / 2, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_scales_equal_torch(flip: bool) -> None:
    torch = pytest.importorskip("torch")
    x = images(1, 12, 20).astype(np.float32) / 50
    network = _network(True)
    seen = average_views(network, x, scales=(0.5, 1.0, 1.5), flip=flip, stride=4)

    def bilinear(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        planes = torch.from_numpy(np.array(array)).permute(0, 3, 1, 2)
        return torch.nn.functional.interpolate(planes, size, mode="bilinear").permute(0, 2, 3, 1).numpy()

    expected = []
    for size in ((6, 10), (12, 20), (18, 30)):
        scaled = np.pad(bilinear(x, size), ((0, 0), (0, -size[0] % 4), (0, -size[1] % 4), (0, 0)))
        for view in (scaled, scaled[:, :, ::-1]) if flip else (scaled,):
            logits = np.asarray(network(view))
            logits = logits if view is scaled else logits[:, :, ::-1]
            expected.append(_softmax(bilinear(logits[:, : size[0], : size[1]], (12, 20))))
    np.testing.assert_allclose(seen, np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(np.sum(seen, -1), 1, atol=1e-5)


def test_one_plain_view_is_told_from_several() -> None:
    assert single_view((1.0,), False)
    assert not single_view((1.0,), True)
    assert not single_view((0.5, 1.0), False)
