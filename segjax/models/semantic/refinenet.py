"""RefineNet: multi-path refinement, four cascaded blocks; and its light-weight version.

Guosheng Lin, Anton Milan, Chunhua Shen, Ian Reid. RefineNet: Multi-Path Refinement Networks for High-Resolution
Semantic Segmentation. CVPR 2017. arXiv:1611.06612. Variants `lw-*`: Vladimir Nekrasov, Chunhua Shen, Ian Reid.
Light-Weight RefineNet for Real-Time Semantic Segmentation. BMVC 2018. arXiv:1810.03272.

Particular about it: every stage of a ResNet is refined, from the coarsest to the finest, by residual convolution units,
fusion with what the coarser block made, and chained residual pooling: 5x5 max-pools in a row, each result projected and
added (figures 2 and 3). The light-weight version has 1x1 convolutions in place of 3x3 ones and no residual units.

Held to, to the parameter (`tests/models/test_refinenet.py`), 21 classes:

    resnet101      118,052,437   DrSleep/refinenet-pytorch, of the first author's group
    lw-resnet101    46,349,653   DrSleep/light-weight-refinenet, the authors'
    lw-resnet50     27,357,525   DrSleep/light-weight-refinenet

As in that code, there are three residual units behind each pooling chain, and the logits are upsampled from 1/4.

Accuracy, VOC 2012: the paper 83.4 mean IoU on test; on val, one scale, resnet101 80.5, lw-resnet50 78.5 and
lw-resnet101 80.3 (the READMEs of those repositories).
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from segjax.models.base import EncoderNetwork
from segjax.nn.conv import Conv
from segjax.ops.pooling import max_pool
from segjax.ops.resize import resize

PAPER = "Lin, Milan, Shen, Reid. RefineNet. CVPR 2017. arXiv:1611.06612"

INPUT = (512, 512, 21)

_LIGHT = {"units": (0, 0), "kernel_size": 1}

VARIANTS = {
    "resnet101": {},
    "resnet50": {"encoder": "resnet50"},
    "resnet152": {"encoder": "resnet152"},
    "lw-resnet50": {"encoder": "resnet50", **_LIGHT},
    "lw-resnet101": {"encoder": "resnet101", **_LIGHT},
    "lw-resnet152": {"encoder": "resnet152", **_LIGHT},
    "test": {"encoder": "resnet_test", "features": (8, 6, 6, 6), "units": (1, 1), "pools": 2},
}


class _ResidualUnits(nn.Module):
    """ReLU, 3x3 convolution with bias, ReLU, 3x3 without, added; `units` times (figure 3). The shape stays."""

    units: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(1, self.units + 1):
            y = Conv(x.shape[-1], 3, dtype=self.dtype, name=f"unit{i}_conv1")(nn.relu(x))
            x = x + Conv(x.shape[-1], 3, use_bias=False, dtype=self.dtype, name=f"unit{i}_conv2")(nn.relu(y))
        return x


class _PoolingChain(nn.Module):
    """Chained residual pooling (figure 3): 5x5 max-pool, convolution, and so on, all added. The shape stays."""

    pools: int
    kernel_size: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        top = x
        for i in range(1, self.pools + 1):
            pooled = max_pool(top, 5, 1, 2)
            top = Conv(x.shape[-1], self.kernel_size, use_bias=False, dtype=self.dtype, name=f"conv{i}")(pooled)
            x = x + top
        return x


class RefineNet(EncoderNetwork):
    """Images [B, H, W, C], H and W multiples of 32 -> logits [B, H, W, K].

    Attributes:
      encoder: with stages at strides 4, 8, 16 and 32.
      features: channels of the blocks, from the coarsest to the finest.
      units: residual units before and behind the pooling chain of each block.
      pools: of each chain.
      kernel_size: of all convolutions but the residual units' and the classifier.
      dropout: rate on the two coarsest stages and, where there are residual units, before the classifier.
    """

    encoder: str = "resnet101"
    features: tuple[int, int, int, int] = (512, 256, 256, 256)
    units: tuple[int, int] = (2, 3)
    pools: int = 4
    kernel_size: int = 3
    dropout: float = 0.5

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, Any]:
        strides = (32, 16, 8, 4)
        stages = self.stages(images, strides, train)
        coarser = None
        for i, stride in enumerate(strides, start=1):
            stage = stages[stride]
            if stride >= 16:
                stage = nn.Dropout(self.dropout, deterministic=not train)(stage)
            coarser = self._block(stage, coarser, i)
        if any(self.units):
            coarser = nn.Dropout(self.dropout, deterministic=not train)(coarser)
        logits = Conv(self.num_classes, 3, dtype=self.dtype, name="classifier")(coarser)
        return self.outputs(logits, size=images.shape[1:3], align_corners=True)

    def _block(self, stage: jax.Array, coarser: jax.Array | None, i: int) -> jax.Array:
        """A RefineNet block: a stage of the encoder and the coarser block's result -> the stage's size, features[i-1].

        Both paths are brought to the same channels before their sum (figure 3): the coarser one is projected before
        it is upsampled, which gives the same and costs a quarter.
        """
        x = self._conv(self.features[i - 1], f"reduce{i}")(stage)
        x = self._units(self.units[0], f"adapt{i}")(x)
        if coarser is not None:
            coarser = self._conv(self.features[i - 1], f"out{i - 1}")(coarser)
            coarser = resize(coarser, x.shape[1:3], align_corners=True)
            x = self._conv(self.features[i - 1], f"join{i}")(x) + coarser
        x = _PoolingChain(self.pools, self.kernel_size, self.dtype, name=f"pool{i}")(nn.relu(x))
        return self._units(self.units[1], f"refine{i}")(x)

    def _conv(self, features: int, name: str) -> nn.Module:
        return Conv(features, self.kernel_size, use_bias=False, dtype=self.dtype, name=name)

    def _units(self, units: int, name: str) -> nn.Module:
        return _ResidualUnits(units, self.dtype, name=name)


MODEL = RefineNet
