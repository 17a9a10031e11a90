"""A network whose every pixel sees only itself, and batches to feed it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.schema import LOGITS, DatasetInfo
from segjax.ops.logits import Logits

INFO = DatasetInfo(
    name="toy",
    classes=("red", "green", "blue", "dark"),
    palette=((220, 40, 40), (40, 180, 60), (50, 80, 220), (30, 30, 30)),
    mean=(100.0, 110.0, 120.0),
    std=(50.0, 60.0, 70.0),
)


@dataclasses.dataclass(frozen=True)
class PixelNet:
    """Logits that are a linear map of the pixel, or, with `context`, of a 3x3 mean of it."""

    num_classes: int = 4
    stride: int = 4
    context: bool = False

    def apply(self, variables: Any, images: jax.Array, train: bool) -> dict[str, Logits]:
        assert not train
        assert images.shape[1] % self.stride == images.shape[2] % self.stride == 0
        if self.context:
            window = (1, 3, 3, 1)
            images = jax.lax.reduce_window(images, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME") / 9
        scores = jnp.einsum("bhwc,ck->bhwk", images, variables["params"]["kernel"])
        return {LOGITS: Logits(scores, images.shape[1:3])}


def variables(seed: int = 0, channels: int = 3, classes: int = 4) -> dict[str, Any]:
    kernel = np.random.default_rng(seed).normal(size=(channels, classes)).astype(np.float32)
    return {"params": {"kernel": kernel}}


def images(count: int, height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
