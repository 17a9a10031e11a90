"""The random choices of the training stream: the order of an epoch, the place of a window.

They come from Philox's raw output, which numpy promises not to change (NEP 19), unlike what `Generator` makes of it: a
run resumed under another numpy goes on with the same samples.
"""

from __future__ import annotations

import functools

import numpy as np

_ORDER, _CORNER = 0, 1  # highest word of the counter: streams that never meet


@functools.lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [count]: every sample once, in an order of the epoch's own. Read-only; the last few epochs' are kept."""
    order = np.argsort(_raw(_ORDER, seed, epoch, count), kind="stable")
    order.flags.writeable = False
    return order


def window_corner(size: tuple[int, int], window: tuple[int, int], seed: int, index: int) -> tuple[int, int]:
    """(top, left) of sample `index`'s window in an image of `size`; 0 along a side that the window covers."""
    rows, columns = (max(0, have - want) + 1 for have, want in zip(size, window))
    top, left = _raw(_CORNER, seed, index, 2)
    return int(top) % rows, int(left) % columns


def _raw(purpose: int, seed: int, index: int, count: int) -> np.ndarray:
    """uint64 [count] for the index-th choice of a purpose."""
    return np.random.Philox(key=(seed, index), counter=(0, 0, 0, purpose)).random_raw(count)
