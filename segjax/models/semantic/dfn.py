"""DFN: a smooth network that makes each class one, and a border network that keeps classes apart.

Yu, Wang, Peng, Gao, Yu, Sang. Learning a Discriminative Feature Network for Semantic Segmentation. CVPR 2018.
arXiv:1804.09337. Layout: figure 2.

What is particular: the smooth network (section 3.1) is a U-shaped decoder whose top is the mean of the whole image; at
each stage of a ResNet a refinement residual block thins the features, a channel attention block weighs them by what
the stage above and they themselves hold, and a second block refines the sum. Every stage is supervised. The border
network (section 3.2) goes the other way: fine stages, then what coarser ones know of meaning, supervised by a focal
loss on the borders between classes (`segjax.losses.border`), whose gradient shapes the encoder they share; it plays no
part in evaluation. The whole loss is that of the logits and the three auxiliary ones, each of weight 1, and 0.1 times
that of the four border logits: `config.loss.aux_weight = 1.0`, `config.loss.border_weight = 0.1`.

Held to ycszen/TorchSeg (the first author's), voc.dfn.R101_v1c, whose ResNet has the wide stem:

    resnet101, 21 classes   90,715,923   90,724,344 there, 8,421 of them in a border block that never runs

GMACs there at 512x512: 279.96 with the border network and all heads, which run in evaluation too; ours then runs the
smooth network and its last head. Accuracy at one scale, by TorchSeg's tables: VOC 2012 val 79.67 mean IoU in the paper
and 79.40 there, Cityscapes val 78.5 and 79.09.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Activation, Conv, ConvNorm
from segjax.ops.pooling import global_avg_pool
from segjax.ops.resize import resize

PAPER = "Yu, Wang, Peng, Gao, Yu, Sang. Learning a Discriminative Feature Network (DFN). CVPR 2018. arXiv:1804.09337"
INPUT = (512, 512, 21)

VARIANTS = {
    "resnet101": dict(encoder="resnet101"),
    "test": dict(encoder="resnet_test", features=8, border_features=4),
}

STAGES = (4, 8, 16, 32)


class RefinementResidual(nn.Module):
    """A 1x1 convolution (child `thin`), and added to it a 3x3 ConvNorm (`conv`) and 3x3 convolution (`refine`) of its
    result (figure 2). [B, H, W, C] -> [B, H, W, features]; called `(x, train)`.

    Attributes:
      features: channels of the result.
      act: of the sum; None for none.
      dtype: of the arithmetic.
    """

    features: int
    act: Activation | None = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = Conv(self.features, 1, use_bias=False, dtype=self.dtype, name="thin")(x)
        y = ConvNorm(self.features, dtype=self.dtype, name="conv")(x, train)
        y = x + Conv(self.features, use_bias=False, dtype=self.dtype, name="refine")(y)
        return y if self.act is None else self.act(y)


class ChannelAttention(nn.Module):
    """The lower stage's channels, weighed by what the means of both stages decide, plus the higher's (figure 3).

    low [B, H, W, C], high [B, H, W, C] or [B, 1, 1, C] -> [B, H, W, C]; children `gate1`, `gate2`.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, low: jax.Array, high: jax.Array) -> jax.Array:
        features = low.shape[-1]
        gate = jnp.concatenate([global_avg_pool(low), global_avg_pool(high)], axis=-1)
        gate = nn.relu(Conv(features, 1, dtype=self.dtype, name="gate1")(gate))
        return low * nn.sigmoid(Conv(features, 1, dtype=self.dtype, name="gate2")(gate)) + high


class DFN(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K], border logits [B, H, W, 4] in training.

    Attributes:
      encoder: with stages at strides 4, 8, 16 and 32.
      features: channels of the smooth network.
      border_features: of the border network; 21 in the reference whatever the number of classes.
    """

    encoder: str = "resnet101"
    encoder_options: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"stem": "wide"})
    features: int = 512
    border_features: int = 21

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """See `ImageNetwork`.

        Raises:
          ModelError: for an unknown encoder, or one that lacks a stage or a field asked for.
        """
        stages = self.stages(images, STAGES, train)
        *coarse, finest = self._smooth(stages, train)
        logits, aux, border = self._head(finest, self.num_classes, "head4", train), [], None
        if self.auxiliary_runs(train):
            for x, stride in zip(coarse, (32, 16, 8), strict=True):
                aux.append(self._head(x, self.num_classes, f"head{stride}", train))
            border = self._border(stages, train)
        return self.outputs(logits, aux, border, size=images.shape[1:3], align_corners=True)

    def _smooth(self, stages: Mapping[int, jax.Array], train: bool) -> list[jax.Array]:
        """[B, H/s, W/s, features] of each stage, from stride 32 to 4."""
        x = ConvNorm(self.features, 1, dtype=self.dtype, name="mean")(global_avg_pool(stages[32]), train)
        results = []
        for stride in reversed(STAGES):
            if results:
                x = resize(x, stages[stride].shape[1:3], align_corners=True)
            low = self._refine(stages[stride], self.features, f"smooth{stride}_in", train)
            x = ChannelAttention(self.dtype, name=f"attention{stride}")(low, x)
            x = self._refine(x, self.features, f"smooth{stride}_out", train)
            results.append(x)
        return results

    def _border(self, stages: Mapping[int, jax.Array], train: bool) -> jax.Array:
        """[B, H/4, W/4, 4], a logit of each stage."""
        x, logits = None, []
        for stride in STAGES:
            y = self._refine(stages[stride], self.border_features, f"border{stride}_in", train)
            if x is None:
                x = y
            else:
                x = x + resize(y, x.shape[1:3], align_corners=True)
                x = self._refine(x, self.border_features, f"border{stride}_out", train)
            logits.append(self._head(x, 1, f"border_head{stride}", train))
        return jnp.concatenate(logits, axis=-1)

    def _refine(self, x: jax.Array, features: int, name: str, train: bool) -> jax.Array:
        return RefinementResidual(features, dtype=self.dtype, name=name)(x, train)

    def _head(self, x: jax.Array, classes: int, name: str, train: bool) -> jax.Array:
        """[B, h, w, C] -> [B, h, w, classes]: a block of nine channels a class, then the class."""
        x = RefinementResidual(9 * classes, None, self.dtype, name=f"{name}_refine")(x, train)
        return Conv(classes, 1, dtype=self.dtype, name=f"{name}_classifier")(x)


MODEL = DFN
