from __future__ import annotations

import numpy as np
import pytest

from segjax.core.errors import ConfigError, DataError
from segjax.inference.draw_instances import instance_colour, instance_overlay, magnification

IMAGE = np.full((40, 60, 3), 100, np.uint8)
MASKS = np.zeros((2, 40, 60), bool)
MASKS[0, 5:30, 5:40] = True
MASKS[1, 10:20, 10:20] = True


def test_masks_and_layers_give_the_same_picture() -> None:
    layers = np.stack([MASKS[0] * 1, MASKS[1] * 2], -1).astype(np.uint8)
    from_masks = instance_overlay(IMAGE, MASKS, [0, 1], ("cat", "dog"), scores=np.array([0.5, 0.98]))
    from_layers = instance_overlay(IMAGE, layers, [0, 1], ("cat", "dog"), scores=np.array([0.5, 0.98]))
    np.testing.assert_array_equal(from_masks, from_layers)
    times = magnification((40, 60))
    assert from_masks.shape == (40 * times, 60 * times, 3)


def test_pixels() -> None:
    """Colours inside, the image outside, the small one over the large one."""
    picture = instance_overlay(IMAGE, MASKS, [0, 1], tags=False, alpha=0.5)
    assert picture.shape == IMAGE.shape
    np.testing.assert_array_equal(picture[35:], IMAGE[35:])
    np.testing.assert_array_equal(picture[25, 30], np.rint(50 + 0.5 * np.array(instance_colour(0))))
    inner = 0.5 * (50 + 0.5 * np.array(instance_colour(0))) + 0.5 * np.array(instance_colour(1))
    np.testing.assert_allclose(picture[15, 15], inner, atol=0.6)


def test_what_is_not_valid_is_not_drawn_and_crowds_are_hatched() -> None:
    nothing = instance_overlay(IMAGE, MASKS, [0, 1], valid=np.zeros(2, bool), tags=False)
    np.testing.assert_array_equal(nothing, IMAGE)
    crowd = instance_overlay(IMAGE, MASKS[:1], [0], crowd=np.array([True]), tags=False)
    inside = crowd[6:29, 6:39]
    assert 0.4 < (inside == 100).all(-1).mean() < 0.6


def test_no_instances_and_empty_masks() -> None:
    np.testing.assert_array_equal(instance_overlay(IMAGE, np.zeros((0, 40, 60), bool), [], tags=False), IMAGE)
    np.testing.assert_array_equal(instance_overlay(IMAGE, np.zeros((40, 60, 1), np.uint8), [0], tags=False), IMAGE)


def test_neighbouring_colours_differ() -> None:
    colours = np.array([instance_colour(k) for k in range(60)]).astype(int)
    near = [np.abs(colours[k] - colours[k + gap]).sum() for k in range(50) for gap in (1, 2, 3)]
    assert min(near) > 60


def test_errors() -> None:
    with pytest.raises(ConfigError, match="alpha"):
        instance_overlay(IMAGE, MASKS, [0, 1], alpha=2)
    with pytest.raises(DataError, match="40x60 and 39x60"):
        instance_overlay(IMAGE, MASKS[:, 1:], [0, 1])
