"""ENet: real-time semantic segmentation with a large encoder, a small decoder, and very few parameters.

Adam Paszke, Abhishek Chaurasia, Sangpil Kim, Eugenio Culurciello. ENet: A deep neural network architecture for
real-time semantic segmentation. 2016. arXiv:1606.02147.

Particular about it: the resolution falls to 1/8 at once; bottlenecks of a quarter of the width, plain, dilated or
asymmetric (5x1 then 1x5); PReLU; the decoder unpools with the positions of the encoder's maxima.

Figures:
  * the paper: 0.37 M parameters, 3.83 GFLOP for 640x360. The default variant has 364,338 at 19 classes: the layout of
    the text, with a PReLU slope a channel everywhere and no bias but in the last layer. The text leaves the projections
    without biases; with one in each other convolution (693 of them, all removed again by the batch normalisation that
    follows) it would be 365,031, which rounds to the paper's 0.37 M. The Caffe port of the released network has
    372,551: those biases, a 1x1 convolution with batch normalisation in the two downsampling shortcuts where the paper
    pads with zeros, and ReLU in the decoder.
  * variant "davidtvs" is the layout of a widely used PyTorch version: 351,660 at 19 classes, 350,652 at 12.
  * variant "davidtvs-2018" is that version's first layout, of which trained CamVid weights exist: 51.0 mean IoU on the
    test split with void counted, 53.3 with void ignored (docs/weights.md). Its 3x3 poolings overlap, so that two maxima
    may unpool to one pixel.
"""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError
from segjax.models.base import ImageNetwork
from segjax.nn.activation import PReLU
from segjax.nn.conv import Conv, ConvNorm, UpConv
from segjax.nn.norm import BatchNorm
from segjax.ops.pooling import max_pool, max_pool_argmax
from segjax.ops.space_to_depth import depth_to_space
from segjax.ops.unpool import max_unpool

PAPER = "Paszke, Chaurasia, Kim, Culurciello. ENet. 2016. arXiv:1606.02147"
INPUT = (360, 640, 19)

VARIANTS = {
    "paper": {},
    "davidtvs": {
        "encoder_act": "shared_prelu",
        "decoder_act": "relu",
        "initial_window": 3,
        "inner_of_output": False,
        "expand_act": True,
        "up_kernel": 2,
        "last_kernel": 3,
        "eps": 1e-5,
    },
    "davidtvs-2018": {
        "encoder_act": "shared_prelu",
        "decoder_act": "shared_prelu",
        "out_act": "prelu",
        "initial_window": 3,
        "pool_window": 3,
        "inner_of_output": False,
        "expand_act": True,
        "up_expand_act": True,
        "last_kernel": 3,
        "eps": 1e-5,
    },
    "test": {"initial_features": 8, "features": (8, 16), "first_blocks": 1, "pattern": ("regular", 2, "asymmetric")},
}


def _activate(x: jax.Array, kind: str, name: str) -> jax.Array:
    return nn.relu(x) if kind == "relu" else PReLU(per_channel=kind == "prelu", name=name)(x)


class _Bottleneck(nn.Module):
    """1x1 to a quarter of the width, one convolution, 1x1 back, dropout of whole channels; added to a shortcut.

    Attributes:
      features: width of the result.
      inner: width inside.
      kind: "regular", "asymmetric", "down" (halves the size), "up" (doubles it), or the rate of a dilated convolution.
      dropout: probability that a channel is dropped.
      act, out_act: inside and after the sum, "prelu", "shared_prelu" or "relu".
      expand_act: activate after the last 1x1 too.
      up_kernel: size of the transposed convolution.
      eps, dtype: as in the network.
    """

    features: int
    inner: int
    kind: str | int
    dropout: float
    act: str
    out_act: str
    expand_act: bool
    up_kernel: int
    pool_window: int
    eps: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, code: jax.Array | None = None):
        """x [B, h, w, C] and, when going up, the position code of the maxima at the doubled size -> the result, and the
        position code of this block's maxima (None unless going down)."""
        shortcut, code = self._shortcut(x, train, code)

        def conv(y, features, size, name, act=True, **window):
            y = ConvNorm(features, size, act=None, eps=self.eps, dtype=self.dtype, name=name, **window)(y, train)
            return _activate(y, self.act, f"{name}_act") if act else y

        down = self.kind == "down"
        y = conv(x, self.inner, 2 if down else 1, "reduce", stride=2 if down else 1, padding=0)
        if self.kind == "up":
            spare = self.up_kernel % 2  # kernel 3 needs one pixel of padding on one side to double the size
            y = UpConv(self.inner, self.up_kernel, 2, spare, spare, use_bias=False, dtype=self.dtype, name="up")(y)
            y = BatchNorm(epsilon=self.eps, dtype=self.dtype, name="up_norm")(y, train)
            y = _activate(y, self.act, "up_act")
        elif self.kind == "asymmetric":
            y = conv(y, self.inner, (5, 1), "column")
            y = conv(y, self.inner, (1, 5), "row")
        else:
            y = conv(y, self.inner, 3, "middle", rate=self.kind if isinstance(self.kind, int) else 1)
        y = conv(y, self.features, 1, "expand", act=self.expand_act)
        y = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(y)
        return _activate(shortcut + y, self.out_act, "act"), code

    def _shortcut(self, x, train, code):
        if self.kind == "down":
            pooled, code = max_pool_argmax(x, self.pool_window, 2, self.pool_window // 3, ceil_mode=False)
            missing = self.features - pooled.shape[-1]
            return jnp.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, missing))), code
        if self.kind == "up":
            narrow = ConvNorm(self.features, 1, act=None, eps=self.eps, dtype=self.dtype, name="shortcut")(x, train)
            return (max_unpool if self.pool_window == 2 else _unpool_overlapping)(narrow, code), None
        return x, None


class ENet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 8 -> logits [B, H, W, K].

    Attributes:
      initial_features: channels after the first block, `in_channels` of which are the pooled image.
      features: channels at strides 4 and 8, a multiple of 4 each, none less than the one before.
      first_blocks: regular bottlenecks after the first downsampling.
      pattern: the bottlenecks of stage 2, repeated as stage 3; an int is a dilated one's rate.
      first_dropout: before the second downsampling; `dropout` after it.
      encoder_act, decoder_act: "prelu" (a slope a channel), "shared_prelu" (one slope) or "relu".
      initial_window: of the first max-pooling; `pool_window`, of the two whose maxima the decoder unpools: 2 or 3.
      inner_of_output: a bottleneck that changes the size has a quarter of its output's width inside (else of its
        input's).
      out_act: after each sum and the first block; empty for the one inside.
      expand_act: activate a bottleneck's branch before the sum too; `up_expand_act`, one that goes up.
      up_kernel: of the transposed convolutions in the decoder, 2 or 3.
      last_kernel: of the one that makes the logits: 2, with a bias, or 3, without.
      eps: of batch normalisation (1e-3 in the authors' Torch code).
    """

    initial_features: int = 16
    features: tuple[int, int] = (64, 128)
    first_blocks: int = 4
    pattern: tuple[str | int, ...] = ("regular", 2, "asymmetric", 4, "regular", 8, "asymmetric", 16)
    first_dropout: float = 0.01
    dropout: float = 0.1
    encoder_act: str = "prelu"
    decoder_act: str = "prelu"
    out_act: str = ""
    initial_window: int = 2
    pool_window: int = 2
    inner_of_output: bool = True
    expand_act: bool = False
    up_expand_act: bool = False
    up_kernel: int = 3
    last_kernel: int = 2
    eps: float = 1e-3

    @property
    def stride(self) -> int:
        return 8

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        self.check_input(images)
        if self.in_channels >= self.initial_features:
            raise ModelError(f"ENet: in_channels={self.in_channels} leave no room in {self.initial_features} features")
        quarter, eighth = self.features

        def block(x, features, kind, dropout, name, act=self.encoder_act, code=None):
            inner = (features if self.inner_of_output else x.shape[-1]) // 4
            acts = (act, self.out_act or act, self.up_expand_act if kind == "up" else self.expand_act)
            shared = (self.up_kernel, self.pool_window, self.eps, self.dtype)
            return _Bottleneck(features, inner, kind, dropout, *acts, *shared, name=name)(x, train, code)

        x = self._initial(images.astype(self.dtype), train)
        x, code_1 = block(x, quarter, "down", self.first_dropout, "down1")
        for i in range(1, self.first_blocks + 1):
            x, _ = block(x, quarter, "regular", self.first_dropout, f"stage1_{i}")
        x, code_2 = block(x, eighth, "down", self.dropout, "down2")
        for stage in (2, 3):
            for i, kind in enumerate(self.pattern, start=1):
                x, _ = block(x, eighth, kind, self.dropout, f"stage{stage}_{i}")

        x, _ = block(x, quarter, "up", self.dropout, "up4", self.decoder_act, code_2)
        for i in (1, 2):
            x, _ = block(x, quarter, "regular", self.dropout, f"stage4_{i}", self.decoder_act)
        x, _ = block(x, self.initial_features, "up", self.dropout, "up5", self.decoder_act, code_1)
        x, _ = block(x, self.initial_features, "regular", self.dropout, "stage5_1", self.decoder_act)
        odd = self.last_kernel % 2
        logits = UpConv(self.num_classes, self.last_kernel, 2, odd, odd, not odd, self.dtype, name="logits")(x)
        return self.outputs(logits)

    def _initial(self, x: jax.Array, train: bool) -> jax.Array:
        """Half size: a convolution beside the pooled image."""
        learned = self.initial_features - self.in_channels
        conv = Conv(learned, 3, stride=2, use_bias=False, dtype=self.dtype, name="initial")(x)
        pooled = max_pool(x, self.initial_window, 2, self.initial_window // 3)
        joined = BatchNorm(epsilon=self.eps, dtype=self.dtype, name="initial_norm")(
            jnp.concatenate([conv, pooled], axis=-1), train
        )
        return _activate(joined, self.out_act or self.encoder_act, "initial_act")


def _unpool_overlapping(x: jax.Array, code: jax.Array) -> jax.Array:
    """[B, h, w, C] and the code of a 3x3 max-pooling of stride 2 and padding 1 -> [B, 2h, 2w, C]. Where two windows
    had the same maximum the later one, by rows, has the pixel, as in PyTorch on a CPU."""
    grow = ((0, 0), (0, 1), (0, 1), (0, 0))
    values, codes = jnp.pad(x, grow), jnp.pad(code, grow, constant_values=-1)
    # By parity of a coordinate: which windows see it, and as which of their rows (or columns); the later first.
    seen = {0: [(0, 1)], 1: [(1, 0), (0, 2)]}
    phases = []
    for rows, columns in itertools.product(seen.values(), repeat=2):
        phase = jnp.zeros_like(x)
        for (i, row), (j, column) in reversed(list(itertools.product(rows, columns))):
            here = (slice(None), slice(i, i + x.shape[1]), slice(j, j + x.shape[2]))
            phase = jnp.where(codes[here] == 3 * row + column, values[here], phase)
        phases.append(phase)
    return depth_to_space(jnp.concatenate(phases, axis=-1), 2)


MODEL = ENet
