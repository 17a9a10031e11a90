"""ERFNet: residual blocks whose 3x3 convolutions are factorised into columns and rows.

Romera, Álvarez, Bergasa, Arroyo. ERFNet: Efficient Residual Factorized ConvNet for Real-Time Semantic Segmentation.
IEEE Transactions on Intelligent Transportation Systems, 2018. Layout: Eromera/erfnet_pytorch, `train/erfnet.py`.

Particular about it: the non-bottleneck-1D block, 3x1, 1x3, 3x1, 1x3 at full width around a shortcut, the second pair
dilated; downsampling by a convolution beside a max-pooling; a decoder of transposed convolutions without skips.

Figures: the authors' PyTorch version has 2,066,836 parameters at 20 classes, 2,580 of them in the encoder's own
classifier, which the whole network never runs. Variant `eromera` is that layout without it, 2,064,256; its 3,213 biases
right before a normalisation, which removes them again, have no gradient in training, and `erfnet` leaves them out:
2,061,043. `encoder` is the first stage of the authors' training, the encoder and that classifier at stride 8. 26.61
GMACs at 512x1024. Accuracy (the authors' README, that version): Cityscapes val 72.1 mean IoU, test 69.8.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import ImageNetwork
from segjax.nn.conv import Conv, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import max_pool
from segjax.ops.residual import relu_of_sum

PAPER = "Romera, Álvarez, Bergasa, Arroyo. ERFNet. IEEE T-ITS 2018"
INPUT = (512, 1024, 19)

VARIANTS = {
    "erfnet": dict(),
    "eromera": dict(conv_bias=True),
    "encoder": dict(decoder=False),
    "test": dict(widths=(8, 12, 16), blocks=1, rates=(2, 4), decoder_blocks=1),
}

ZERO_GRADIENT = {"eromera": r"(down\d/conv|row\d|up\d)/bias$"}
"""By variant, the parameters (a pattern on their path) that no training loss can move: see above."""

EPS = 1e-3


class _Downsample(nn.Module):
    """Half the size: a 3x3 convolution beside a max-pooling, together `features` channels, normalised."""

    features: int
    conv_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        learned = self.features - x.shape[-1]
        y = Conv(learned, 3, 2, use_bias=self.conv_bias, dtype=self.dtype, name="conv")(x)
        y = jnp.concatenate([y, max_pool(x)], axis=-1)
        return nn.relu(BatchNorm(epsilon=EPS, dtype=self.dtype, name="norm")(y, train))


class _NonBottleneck1D(nn.Module):
    """Two factorised 3x3 convolutions, the second of `rate`, around a shortcut. Keeps the shape."""

    rate: int
    dropout: float
    conv_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(y: jax.Array, size: tuple[int, int], rate: tuple[int, int], bias: bool, name: str) -> jax.Array:
            return Conv(x.shape[-1], size, rate=rate, use_bias=bias, dtype=self.dtype, name=name)(y)

        y = x
        for i, rate in enumerate((1, self.rate), start=1):
            y = nn.relu(conv(y, (3, 1), (rate, 1), True, f"column{i}"))
            y = conv(y, (1, 3), (1, rate), self.conv_bias, f"row{i}")
            y = BatchNorm(epsilon=EPS, dtype=self.dtype, name=f"norm{i}")(y, train)
            y = nn.relu(y) if i == 1 else y
        y = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(y)
        return relu_of_sum(x, y)


class ERFNet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 8 -> logits [B, H, W, K].

    Attributes:
      widths: channels at strides 2, 4 and 8.
      blocks: non-bottleneck-1D blocks at stride 4.
      rates: of those at stride 8, one block each, the whole series twice.
      decoder_blocks: blocks after each upsampling.
      first_dropout: rate (of whole channels) in the blocks at stride 4; `dropout` in those at stride 8.
      decoder: else the encoder's features through a 1x1 classifier, upsampled bilinearly.
      conv_bias: biases before a normalisation too (their training gradient is zero).
    """

    widths: tuple[int, int, int] = (16, 64, 128)
    blocks: int = 5
    rates: tuple[int, ...] = (2, 4, 8, 16)
    decoder_blocks: int = 2
    first_dropout: float = 0.03
    dropout: float = 0.3
    decoder: bool = True
    conv_bias: bool = False

    @property
    def stride(self) -> int:
        return 8

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        half, quarter, eighth = self.widths
        x = self._down(images.astype(self.dtype), half, "down1", train)
        x = self._down(x, quarter, "down2", train)
        for i in range(self.blocks):
            x = self._block(x, 1, self.first_dropout, f"stage1_{i + 1}", train)
        x = self._down(x, eighth, "down3", train)
        for i, rate in enumerate(2 * self.rates):
            x = self._block(x, rate, self.dropout, f"stage2_{i + 1}", train)
        if not self.decoder:
            scores = Conv(self.num_classes, 1, dtype=self.dtype, name="classifier")(x)
            return self.outputs(scores, size=images.shape[1:3])
        for stage, width in ((3, quarter), (4, half)):
            x = self._up(x, width, f"up{stage}", train)
            for i in range(self.decoder_blocks):
                x = self._block(x, 1, 0.0, f"stage{stage}_{i + 1}", train)
        return self.outputs(UpConv(self.num_classes, dtype=self.dtype, name="logits")(x))

    def _down(self, x: jax.Array, width: int, name: str, train: bool) -> jax.Array:
        return _Downsample(width, self.conv_bias, self.dtype, name=name)(x, train)

    def _up(self, x: jax.Array, width: int, name: str, train: bool) -> jax.Array:
        x = UpConv(width, 3, 2, 1, 1, use_bias=self.conv_bias, dtype=self.dtype, name=name)(x)
        return nn.relu(BatchNorm(epsilon=EPS, dtype=self.dtype, name=f"{name}_norm")(x, train))

    def _block(self, x: jax.Array, rate: int, dropout: float, name: str, train: bool) -> jax.Array:
        return _NonBottleneck1D(rate, dropout, self.conv_bias, self.dtype, name=name)(x, train)


MODEL = ERFNet
