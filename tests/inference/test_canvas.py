from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segjax.inference.canvas import canvases, pad_batch, round_up

SIDE = st.integers(1, 2000)


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=40), st.sampled_from([1, 8, 32]))
def test_every_image_fits_and_sizes_are_few(sizes: list[tuple[int, int]], stride: int) -> None:
    found = canvases(sizes, stride)
    for (height, width), (canvas_height, canvas_width) in zip(sizes, found):
        assert height <= canvas_height
        assert width <= canvas_width
        assert canvas_height % stride == canvas_width % stride == 0
    assert len(set(found)) <= 16


def test_like_sizes_share_the_largest_as_evaluation_pads_them() -> None:
    assert set(canvases([(360, 480), (352, 480)], 16)) == {(368, 480)}
    assert set(canvases([(360, 480)], 8)) == {(360, 480)}


def test_one_giant_image_does_not_blow_up_the_rest() -> None:
    found = canvases([(64, 64)] * 20 + [(1000, 1000)], 32)
    assert found[0][0] <= 256
    assert found[-1] == (1024, 1024)


def test_fixed_size_is_kept_for_images_that_fit_it() -> None:
    assert canvases([(30, 40), (50, 60)], 16, fixed=(100, 100)) == [(112, 112)] * 2
    found = canvases([(30, 40), (120, 60), (50, 60)], 16, fixed=(100, 100))
    assert found == [(112, 112), (128, 64), (112, 112)]


def test_pad_batch() -> None:
    image = np.ones((3, 5, 2), np.uint16)
    batch, sizes = pad_batch([image], (4, 8), 2)
    assert batch.shape == (2, 4, 8, 2)
    assert batch.dtype == np.uint16
    assert batch.sum() == image.sum()
    assert sizes.tolist() == [[3, 5], [0, 0]]
    assert round_up((1, 33), 32) == (32, 64)
