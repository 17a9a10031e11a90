"""Maps of several sizes enlarged to the largest and concatenated, and a 1x1 convolution of that, as decoders end."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from segjax.core.errors import ModelError
from segjax.ops.conv import conv2d
from segjax.ops.formulation import formulation
from segjax.ops.precision import widen
from segjax.ops.resize import resize


def join(maps: Sequence[jax.Array], kernel: jax.Array, *, align_corners: bool = False) -> jax.Array:
    """The 1x1 convolution of the maps' concatenation, each enlarged bilinearly to the largest of them.

    Enlarging takes every channel alike and a 1x1 convolution every pixel, so that either may come first: mixed before
    ("early"), a map of a quarter of the pixels needs a quarter of the products, and no concatenation is kept.

    Args:
      maps: [B, H_i, W_i, C_i] each, of one dtype.
      kernel: [1, 1, sum of C_i, features], of the maps' dtype.
      align_corners: as in `segjax.ops.resize.resize`.

    Returns:
      [B, max H_i, max W_i, features] of the maps' dtype.

    Raises:
      ModelError: a kernel that is not 1x1 or does not fit the channels.
    """
    channels = [x.shape[-1] for x in maps]
    if kernel.shape[:-1] != (1, 1, sum(channels)):
        raise ModelError(f"join: a kernel {kernel.shape} does not mix maps of {channels} channels")
    if formulation("join") == "early":
        parts = jnp.split(kernel, np.cumsum(channels)[:-1], axis=2)
        mixed = _enlarged([conv2d(x, part) for x, part in zip(maps, parts)], align_corners)
        return sum(widen(x) for x in mixed).astype(kernel.dtype)
    return conv2d(concatenated(maps, align_corners), kernel)


def concatenated(maps: Sequence[jax.Array], align_corners: bool = False) -> jax.Array:
    """[B, H_i, W_i, C_i] each -> [B, max H_i, max W_i, sum of C_i], enlarged bilinearly."""
    return jnp.concatenate(_enlarged(maps, align_corners), axis=-1)


def _enlarged(maps: Sequence[jax.Array], align_corners: bool) -> list[jax.Array]:
    size = (max(x.shape[1] for x in maps), max(x.shape[2] for x in maps))
    return [resize(x, size, align_corners=align_corners) for x in maps]
