"""Random streams and tileable noise, the raw material of every surface."""

from __future__ import annotations

import functools

import numpy as np

TILE = 256
"""Side of every noise tile, in texels; a power of two, so that wrapping is a bit mask."""


def stream(seed: int, index: int, *, frame: int = 0, purpose: int = 0) -> np.random.Generator:
    """The generator of one scene: counter-based, so any scene is reached without drawing those before it.

    `frame` and `purpose` sit in the upper half of Philox's 256-bit counter: no two streams of a scene overlap.
    """
    key = np.array([seed, index], np.uint64)
    counter = np.array([0, 0, frame, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def _spectral(number: int, slope: float, low: float, high: float) -> np.ndarray:
    """Gaussian noise [TILE, TILE], mean 0, deviation 1, amplitude ~ frequency**-slope between two frequencies."""
    white = stream(0x7E87, number).standard_normal((TILE, TILE))
    fy = np.fft.fftfreq(TILE)[:, None] * TILE
    fx = np.fft.rfftfreq(TILE)[None, :] * TILE
    radius = np.hypot(fy, fx)
    gain = (
        np.maximum(radius, 1.0) ** -slope / (1.0 + (radius / high) ** 4) / (1.0 + (low / np.maximum(radius, 0.5)) ** 4)
    )
    gain[0, 0] = 0.0
    tile = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(TILE, TILE))
    return (tile / tile.std()).astype(np.float32)


@functools.cache
def tile(kind: str) -> np.ndarray:
    """A fixed noise tile, float32 [TILE, TILE], mean 0 and standard deviation 1, periodic in both axes.

    Kinds: `cloud` (large soft shapes), `grain` (rough at all scales), `leaf` (blobs of a few texels), `white`.
    """
    return {
        "cloud": lambda: _spectral(1, 1.7, 1.0, 60.0),
        "grain": lambda: _spectral(2, 0.7, 2.0, 128.0),
        "leaf": lambda: _spectral(3, 0.2, 18.0, 48.0),
        "white": lambda: _spectral(4, 0.0, 0.5, 512.0),
    }[kind]()


@functools.cache
def uniform_table() -> np.ndarray:
    """Fixed uniform numbers in [0, 1), float32 [64, 64]: one a window, one a paving slab."""
    return stream(0x7E87, 9).random((64, 64), dtype=np.float32)


def sample(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Nearest texels of a tile at texel coordinates `u` (across) and `v` (down), which broadcast and wrap."""
    mask = TILE - 1
    return tile(kind)[v.astype(np.int32) & mask, u.astype(np.int32) & mask]


def cell_value(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """A fixed uniform number for every integer cell (i, j); the pattern repeats after 64."""
    return uniform_table()[j.astype(np.int32) & 63, i.astype(np.int32) & 63]


def stripe(x: np.ndarray, period: float, duty: float, blur: np.ndarray | float) -> np.ndarray:
    """Coverage 0..1 of bands of width `duty * period` every `period`, seen through a pixel of width `blur`.

    Beyond one period a pixel sees the average, `duty`: far windows and bars fade instead of aliasing.
    """
    phase = x / period
    offset = np.abs(phase - np.floor(phase) - 0.5) * period
    half = 0.5 * duty * period
    edge = np.clip((half - offset) / np.maximum(blur, 1e-4) + 0.5, 0.0, 1.0)
    far = np.clip(blur / period - 0.35, 0.0, 1.0)
    return edge + (duty - edge) * far
