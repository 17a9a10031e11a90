"""U-Net: a contracting path, an expanding path, and at each resolution the features of the first joined to the second.

Olaf Ronneberger, Philipp Fischer, Thomas Brox. U-Net: Convolutional networks for biomedical image segmentation.
MICCAI 2015. arXiv:1505.04597. Layout: figure 1.

Particular about it: doubling widths, concatenated skips, 2x2 up-convolutions that halve the width; in the original no
padding anywhere, so that a mirrored border (figure 2, the overlap-tile strategy) is needed to label a whole image.

Figures:
  * variant "original": 31,030,658 parameters at 2 classes and 1 channel, 572x572 -> 388x388 without mirroring; no batch
    normalisation, biases everywhere, dropout at the end of the contracting path.
  * variant "same": padded convolutions with batch normalisation: 31,037,698 at 2 classes and 3 channels, 31,037,633 at
    1 class (milesial/Pytorch-UNet).
  * variant "small" is ours, for two CPU cores: 484,764 parameters at 11 classes, on patches of 2x2 pixels.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, SizeError
from segjax.models.base import ImageNetwork
from segjax.nn.conv import Conv, ConvNorm, UpConv
from segjax.ops.border import crop, mirror
from segjax.ops.pooling import max_pool
from segjax.ops.space_to_depth import depth_to_space, space_to_depth

PAPER = "Ronneberger, Fischer, Brox. U-Net. MICCAI 2015. arXiv:1505.04597"
INPUT = (512, 512, 2)

VARIANTS = {
    "same": {},
    "original": {"padding": "valid", "norm": False, "dropout": 0.5},
    "small": {"base_channels": 16, "depth": 3, "patch": 2},
    "test": {"base_channels": 4, "depth": 2, "dropout": 0.5},
}


class UNet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 2^depth -> logits [B, H, W, K].

    With `padding="valid"` and `mirror=False` H and W may be other sizes and the logits are smaller by the border that
    the convolutions eat; see `valid_size`.

    Attributes:
      base_channels: width at the finest level; each level down doubles it.
      depth: number of poolings.
      padding: "same" or "valid".
      norm: batch normalisation after each 3x3 convolution; else a bias.
      dropout: probability at the end of the contracting path (the two coarsest levels).
      patch: 1 in the paper; else each patch x patch pixels enter as channels of one, and leave as sub-pixels of the
        logits (Shi et al., CVPR 2016, arXiv:1609.05158): full-resolution logits at 1 / patch^2 of the work. Needs
        padding "same".
      mirror: with valid convolutions, reflect the image beyond its border so that every pixel gets logits.
    """

    base_channels: int = 64
    depth: int = 4
    padding: str = "same"
    norm: bool = True
    dropout: float = 0.0
    patch: int = 1
    mirror: bool = True

    @property
    def stride(self) -> int:
        return self.patch * 2**self.depth if self.padding == "same" or self.mirror else 1

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        if self.padding not in ("same", "valid"):
            raise ModelError(f"UNet: padding {self.padding!r} is unknown: use 'same' or 'valid'")
        if self.patch > 1 and self.padding != "same":
            raise ModelError(f"UNet: patch {self.patch} needs padding 'same', not {self.padding!r}")
        size = images.shape[1:3]
        x = space_to_depth(images.astype(self.dtype), self.patch)
        if self.padding == "valid":
            x = mirror(x, *(self._border(n) for n in size)) if self.mirror else x
            for rows in x.shape[1:3]:
                self.valid_size(rows)

        skips = []
        for level in range(self.depth + 1):
            if level > 0:
                x = max_pool(x)
            x = self._double_conv(x, level, f"down{level}", train)
            if self.dropout and level >= self.depth - 1:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            skips.append(x)
        for level in reversed(range(self.depth)):
            features = self.base_channels * 2**level
            x = UpConv(features, dtype=self.dtype, name=f"upconv{level}")(x)
            x = jnp.concatenate([_centre(skips[level], x.shape[1:3]), x], axis=-1)
            x = self._double_conv(x, level, f"up{level}", train)
        logits = Conv(self.num_classes * self.patch**2, 1, dtype=self.dtype, name="logits")(x)
        logits = depth_to_space(logits, self.patch)
        if self.padding == "valid" and self.mirror:
            logits = _centre(logits, size)
        return self.outputs(logits)

    def valid_size(self, size: int) -> int:
        """Rows (or columns) of logits that valid convolutions leave of `size` rows.

        Raises:
          SizeError: no logits would be left, or some level has an odd size; names the nearest larger size that works.
        """
        result = self._shrunk(size)
        if result is not None:
            return result
        fitting = next(n for n in range(size + 1, size + 16 * 2 ** (self.depth + 2)) if self._shrunk(n) is not None)
        raise SizeError(f"UNet: valid convolutions do not fit {size} pixels at depth {self.depth}: pad to {fitting}")

    def _shrunk(self, size: int) -> int | None:
        for _ in range(self.depth):
            size -= 4
            if size <= 0 or size % 2:
                return None
            size //= 2
        size -= 4
        for _ in range(self.depth):
            size = 2 * size - 4
        return size if size > 0 else None

    def _border(self, size: int) -> tuple[int, int]:
        """Mirrored pixels before and after: the fewest with which at least `size` pixels of logits come out."""
        total = 0
        while (self._shrunk(size + total) or 0) < size:
            total += 2
        return total // 2, total - total // 2

    def _double_conv(self, x: jax.Array, level: int, name: str, train: bool) -> jax.Array:
        features = self.base_channels * 2**level
        for i in (1, 2):
            if self.norm:
                x = ConvNorm(features, padding=self.padding, dtype=self.dtype, name=f"{name}_conv{i}")(x, train)
            else:
                x = nn.relu(Conv(features, padding=self.padding, dtype=self.dtype, name=f"{name}_conv{i}")(x))
        return x


def _centre(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The middle `size` of x."""
    top, left = ((n - wanted) // 2 for n, wanted in zip(x.shape[1:3], size))
    return crop(x, (top, left), size)


MODEL = UNet
