"""The scores of a dense prediction, at the resolution at which a network computed them.

Shape legend: B batch, H height, W width of the image; h, w of the scores; K classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from segjax.ops.geometry import Pair
from segjax.ops.resize import resize


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logits:
    """Logits [B, h, w, K] that stand for their bilinear interpolation [B, H, W, K].

    Most networks score every fourth or eighth pixel. A loss can read such scores block by block
    (`segjax.losses.blocked`), so that no array of [B, H, W, K] is ever in memory.

    Attributes:
      values: float32 [B, h, w, K]. At full resolution bfloat16 would round neighbouring logits onto each other.
      size: (H, W).
      align_corners: as in `segjax.ops.resize.resize`.
    """

    values: jax.Array
    size: Pair = dataclasses.field(metadata={"static": True})
    align_corners: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, W, K), the shape of `upsample()`."""
        return (self.values.shape[0], *self.size, self.values.shape[-1])

    @property
    def full_size(self) -> bool:
        """Whether the values are those of every pixel already."""
        return self.values.shape == self.shape

    def upsample(self) -> jax.Array:
        """float32 [B, H, W, K]: the values themselves where they have that size."""
        return self.values if self.full_size else resize(self.values, self.size, align_corners=self.align_corners)


def upsampled(outputs: Any) -> Any:
    """A network's outputs, or any tree, with the array `upsample()` in the place of each `Logits`."""
    is_logits = lambda x: isinstance(x, Logits)  # noqa: E731
    return jax.tree.map(lambda x: x.upsample() if is_logits(x) else x, outputs, is_leaf=is_logits)
