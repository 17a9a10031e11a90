"""Logits that a network leaves small, for whoever reads them to enlarge: whole, or a part at a time."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

import jax

from segjax.ops.geometry import Pair
from segjax.ops.precision import widen
from segjax.ops.resize import resize

_LEFT_SMALL = contextvars.ContextVar("left_small", default=False)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Enlarged:
    """Stands for the bilinear enlargement of logits, which nobody has written out yet.

    Attributes:
      small: float32 [B, h, w, K].
      size: (H, W).
      align_corners: as in `segjax.ops.resize.resize`.
    """

    small: jax.Array
    size: Pair = dataclasses.field(metadata={"static": True})
    align_corners: bool = dataclasses.field(default=False, metadata={"static": True})


def enlarge(logits: jax.Array, size: Pair, align_corners: bool = False) -> jax.Array | Enlarged:
    """Logits [B, h, w, K] at the image's size: float32 [B, H, W, K], or `Enlarged` inside `left_small`.

    In float32, because at full resolution bfloat16 would round neighbouring logits onto each other.
    """
    enlarged = Enlarged(widen(logits), size, align_corners)
    return enlarged if _LEFT_SMALL.get() and logits.shape[1:3] != size else whole(enlarged)


def whole(logits: jax.Array | Enlarged) -> jax.Array:
    """[B, H, W, K], whichever of the two."""
    if isinstance(logits, Enlarged):
        return resize(logits.small, logits.size, align_corners=logits.align_corners)
    return logits


@contextlib.contextmanager
def left_small() -> Iterator[None]:
    """Networks called inside return `Enlarged` logits where they would enlarge them last. Read while tracing."""
    token = _LEFT_SMALL.set(True)
    try:
        yield
    finally:
        _LEFT_SMALL.reset(token)
