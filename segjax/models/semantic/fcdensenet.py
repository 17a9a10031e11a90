"""FC-DenseNet, the one hundred layers tiramisu: a U-Net of dense blocks.

Simon Jegou, Michal Drozdzal, David Vazquez, Adriana Romero, Yoshua Bengio. The One Hundred Layers Tiramisu: Fully
Convolutional DenseNets for Semantic Segmentation. CVPR Workshops 2017. arXiv:1611.09326. Layout: tables 1 and 2.

Particular about it: each layer (normalisation, ReLU, 3x3 convolution, dropout) adds its few channels to all that came
before in its block; on the way up only the channels new in a block are upsampled, or they would grow too many; the skip
connections carry the whole of each block on the way down.

Held to, to the parameter (`tests/models/test_fcdensenet.py`):

    103, 12 classes   9,322,348   bfortuner/pytorch_tiramisu; the paper's 9.4 M are these and 103,072 statistics
    67, 12 classes    3,463,532   bfortuner/pytorch_tiramisu; 3.5 M in the paper
    56, 12 classes    1,376,988   bfortuner/pytorch_tiramisu, called 57 there; 1.5 M in the paper, which do not
                                  follow from its own table 1, statistics included 1,398,156

The paper (table 3): CamVid test 66.9 mean IoU and 91.5 global accuracy for 103 layers, 65.8 for 67, 58.9 for 56.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.nn.conv import Conv, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import max_pool

PAPER = "Jegou, Drozdzal, Vazquez, Romero, Bengio. The One Hundred Layers Tiramisu. CVPRW 2017. arXiv:1611.09326"

INPUT = (224, 224, 12)

VARIANTS = {
    "103": {},
    "67": {"layers": (5, 5, 5, 5, 5), "middle": 5},
    "56": {"layers": (4, 4, 4, 4, 4), "middle": 4, "growth": 12},
    "test": {"layers": (2, 1), "middle": 1, "growth": 4, "first_features": 6},
}


# Only normalisations see what a block on the way up gets, so the bias of its upsampling changes nothing; the last
# block's goes to the classifier too.
ZERO_GRADIENT = {"test": r"^up(?!1_)\d+_transition/bias$"}


class _NormConv(nn.Module):
    """Normalisation (child `norm`), ReLU, convolution (`conv`), dropout of whole channels; called `(x, train)`."""

    features: int
    kernel_size: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train))
        x = Conv(self.features, self.kernel_size, dtype=self.dtype, name="conv")(x)
        return nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(x)


class FCDenseNet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 2^len(layers) -> logits [B, H, W, K].

    Attributes:
      layers: of each dense block on the way down, and in reverse on the way up.
      middle: layers of the block between.
      growth: channels that a layer adds.
      first_features: channels of the first convolution.
      dropout: probability that a channel of a layer's result is dropped.
    """

    layers: tuple[int, ...] = (4, 5, 7, 10, 12)
    middle: int = 15
    growth: int = 16
    first_features: int = 48
    dropout: float = 0.2

    @property
    def stride(self) -> int:
        return 2 ** len(self.layers)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        if not self.layers or min(*self.layers, self.middle) < 1:
            raise ModelError(f"layers={self.layers}, middle={self.middle}: give every block a layer.")
        x = Conv(self.first_features, 3, dtype=self.dtype, name="first")(images.astype(self.dtype))
        skips = []
        for i, layers in enumerate(self.layers, start=1):
            x = jnp.concatenate([x, *self._block(x, layers, f"down{i}", train)], -1)
            skips.append(x)
            x = max_pool(self._layer(x.shape[-1], 1, f"down{i}_transition")(x, train))
        new = self._block(x, self.middle, "middle", train)
        for i in range(len(self.layers), 0, -1):
            skip = skips[i - 1]
            x = jnp.concatenate([self._upsampled(jnp.concatenate(new, -1), skip.shape, f"up{i}_transition"), skip], -1)
            new = self._block(x, self.layers[i - 1], f"up{i}", train)
        logits = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(jnp.concatenate([x, *new], -1))
        return self.outputs(logits)

    def _layer(self, features: int, kernel_size: int, name: str) -> nn.Module:
        return _NormConv(features, kernel_size, self.dropout, self.dtype, name=name)

    def _block(self, x: jax.Array, layers: int, name: str, train: bool) -> list[jax.Array]:
        """What the layers of a dense block add to x: `layers` times [B, h, w, growth]."""
        new: list[jax.Array] = []
        for j in range(layers):
            new.append(self._layer(self.growth, 3, f"{name}_layer{j + 1}")(jnp.concatenate([x, *new], -1), train))
        return new

    def _upsampled(self, x: jax.Array, shape: tuple[int, ...], name: str) -> jax.Array:
        """Twice the size by a transposed 3x3 convolution, whose last row and column are cut."""
        x = UpConv(x.shape[-1], 3, 2, dtype=self.dtype, name=name)(x)
        return x[:, : shape[1], : shape[2]]


MODEL = FCDenseNet
