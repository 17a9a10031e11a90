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
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.core.errors import ModelError, suggest
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
    "davidtvs": {"layout": "davidtvs"},
    "davidtvs-2018": {"layout": "davidtvs-2018"},
    "test": {"initial_features": 8, "features": (8, 16), "first_blocks": 1, "pattern": ("regular", 2, "asymmetric")},
}


class Bottleneck(nn.Module):
    """1x1 to a quarter of the width, one convolution, 1x1 back, dropout of whole channels; added to a shortcut
    (figure 2b). The paper's layout.

    Attributes:
      features: width of the result.
      kind: "regular", "asymmetric", "down" (halves the size), "up" (doubles it), or the rate of a dilated convolution.
      dropout: probability that a channel is dropped.
      decoder: whether it stands in the decoder.
      dtype: of the arithmetic.
    """

    features: int
    kind: str | int
    dropout: float
    decoder: bool = False
    dtype: Any = jnp.float32

    eps = 1e-3  # of batch normalisation, in the authors' Torch code
    pool_window = 2  # of the poolings whose maxima the decoder unpools
    up_kernel = 3  # of the transposed convolution

    def inner(self, before: int) -> int:
        """Channels inside, of a block that takes `before`."""
        return self.features // 4

    def act(self, x: jax.Array, name: str) -> jax.Array:
        """The activation inside."""
        return PReLU(name=name)(x)

    def act_expanded(self, x: jax.Array) -> jax.Array:
        """The activation after the last 1x1 convolution: none."""
        return x

    def act_sum(self, x: jax.Array) -> jax.Array:
        """The activation of the sum."""
        return self.act(x, "act")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, code: jax.Array | None = None):
        """x [B, h, w, C] and, when going up, the position code of the maxima at the doubled size -> the result, and the
        position code of this block's maxima (None unless going down)."""
        shortcut, code = self._shortcut(x, train, code)
        inner = self.inner(x.shape[-1])

        def conv(y: jax.Array, features: int, size: Any, name: str, **window: Any) -> jax.Array:
            return ConvNorm(features, size, act=None, eps=self.eps, dtype=self.dtype, name=name, **window)(y, train)

        stride = 2 if self.kind == "down" else 1
        y = self.act(conv(x, inner, stride, "reduce", stride=stride, padding=0), "reduce_act")
        if self.kind == "up":
            spare = self.up_kernel % 2  # kernel 3 needs one pixel of padding on one side to double the size
            y = UpConv(inner, self.up_kernel, 2, spare, spare, use_bias=False, dtype=self.dtype, name="up")(y)
            y = self.act(BatchNorm(epsilon=self.eps, dtype=self.dtype, name="up_norm")(y, train), "up_act")
        elif self.kind == "asymmetric":
            y = self.act(conv(y, inner, (5, 1), "column"), "column_act")
            y = self.act(conv(y, inner, (1, 5), "row"), "row_act")
        else:
            rate = self.kind if isinstance(self.kind, int) else 1
            y = self.act(conv(y, inner, 3, "middle", rate=rate), "middle_act")
        y = self.act_expanded(conv(y, self.features, 1, "expand"))
        y = nn.Dropout(self.dropout, broadcast_dims=(1, 2), deterministic=not train)(y)
        return self.act_sum(shortcut + y), code

    def _shortcut(self, x, train, code):
        if self.kind == "down":
            pooled, code = max_pool_argmax(x, self.pool_window, 2, self.pool_window // 3, ceil_mode=False)
            missing = self.features - pooled.shape[-1]
            return jnp.pad(pooled, ((0, 0), (0, 0), (0, 0), (0, missing))), code
        if self.kind == "up":
            narrow = ConvNorm(self.features, 1, act=None, eps=self.eps, dtype=self.dtype, name="shortcut")(x, train)
            return (max_unpool if self.pool_window == 2 else _unpool_overlapping)(narrow, code), None
        return x, None


class DavidtvsBottleneck(Bottleneck):
    """davidtvs/PyTorch-ENet: a quarter of the input's width inside, one PReLU slope a layer, ReLU in the decoder, and
    an activation before the sum too, but on the way up."""

    eps = 1e-5
    up_kernel = 2

    def inner(self, before: int) -> int:
        return before // 4

    def act(self, x: jax.Array, name: str) -> jax.Array:
        return nn.relu(x) if self.decoder else PReLU(per_channel=False, name=name)(x)

    def act_expanded(self, x: jax.Array) -> jax.Array:
        return x if self.kind == "up" else self.act(x, "expand_act")


class Davidtvs2018Bottleneck(DavidtvsBottleneck):
    """Its first version: overlapping poolings, no ReLU, and after each sum a slope a channel."""

    pool_window = 3
    up_kernel = 3

    def act(self, x: jax.Array, name: str) -> jax.Array:
        return PReLU(per_channel=False, name=name)(x)

    def act_expanded(self, x: jax.Array) -> jax.Array:
        return self.act(x, "expand_act")

    def act_sum(self, x: jax.Array) -> jax.Array:
        return PReLU(name="act")(x)


class Layout(NamedTuple):
    """What the networks of a layout are made of.

    Attributes:
      block: their bottleneck.
      window: of the first max-pooling.
      slopes: whether the first activation has a slope a channel.
      last_kernel: of the transposed convolution that makes the logits: 2, with a bias, or 3, without.
    """

    block: type[Bottleneck]
    window: int
    slopes: bool
    last_kernel: int


LAYOUTS = {
    "paper": Layout(Bottleneck, 2, True, 2),
    "davidtvs": Layout(DavidtvsBottleneck, 3, False, 3),
    "davidtvs-2018": Layout(Davidtvs2018Bottleneck, 3, True, 3),
}


class ENet(ImageNetwork):
    """Images [B, H, W, C], H and W multiples of 8 -> logits [B, H, W, K].

    Attributes:
      layout: a key of `LAYOUTS`.
      initial_features: channels after the first block, `in_channels` of which are the pooled image.
      features: channels at strides 4 and 8, a multiple of 4 each, none less than the one before.
      first_blocks: regular bottlenecks after the first downsampling.
      pattern: the bottlenecks of stage 2, repeated as stage 3; an int is a dilated one's rate.
      first_dropout: before the second downsampling; `dropout` after it.
    """

    layout: str = "paper"
    initial_features: int = 16
    features: tuple[int, int] = (64, 128)
    first_blocks: int = 4
    pattern: tuple[str | int, ...] = ("regular", 2, "asymmetric", 4, "regular", 8, "asymmetric", 16)
    first_dropout: float = 0.01
    dropout: float = 0.1

    @property
    def stride(self) -> int:
        return 8

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: an unknown layout, or as many image channels as features after the first block.
        """
        self.check_input(images)
        if self.layout not in LAYOUTS:
            raise ModelError(f"ENet has no layout {self.layout!r}.{suggest(self.layout, LAYOUTS)}")
        if self.in_channels >= self.initial_features:
            raise ModelError(f"ENet: in_channels={self.in_channels} leave no room in {self.initial_features} features")
        quarter, eighth = self.features
        layout = LAYOUTS[self.layout]

        def block(x, features, kind, name, *, dropout=self.dropout, decoder=False, code=None):
            return layout.block(features, kind, dropout, decoder, self.dtype, name=name)(x, train, code)

        x = self._initial(images.astype(self.dtype), train)
        x, code_1 = block(x, quarter, "down", "down1", dropout=self.first_dropout)
        for i in range(1, self.first_blocks + 1):
            x, _ = block(x, quarter, "regular", f"stage1_{i}", dropout=self.first_dropout)
        x, code_2 = block(x, eighth, "down", "down2")
        for stage in (2, 3):
            for i, kind in enumerate(self.pattern, start=1):
                x, _ = block(x, eighth, kind, f"stage{stage}_{i}")

        x, _ = block(x, quarter, "up", "up4", decoder=True, code=code_2)
        for i in (1, 2):
            x, _ = block(x, quarter, "regular", f"stage4_{i}", decoder=True)
        x, _ = block(x, self.initial_features, "up", "up5", decoder=True, code=code_1)
        x, _ = block(x, self.initial_features, "regular", "stage5_1", decoder=True)
        odd = layout.last_kernel % 2
        logits = UpConv(self.num_classes, layout.last_kernel, 2, odd, odd, not odd, self.dtype, name="logits")(x)
        return self.outputs(logits)

    def _initial(self, x: jax.Array, train: bool) -> jax.Array:
        """Half size: a convolution beside the pooled image."""
        layout, learned = LAYOUTS[self.layout], self.initial_features - self.in_channels
        conv = Conv(learned, 3, stride=2, use_bias=False, dtype=self.dtype, name="initial")(x)
        pooled = max_pool(x, layout.window, 2, layout.window // 3)
        norm = BatchNorm(epsilon=layout.block.eps, dtype=self.dtype, name="initial_norm")
        x = norm(jnp.concatenate([conv, pooled], axis=-1), train)
        return PReLU(per_channel=layout.slopes, name="initial_act")(x)


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
